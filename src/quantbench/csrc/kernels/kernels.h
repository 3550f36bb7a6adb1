// The kernels of one instruction set. Every set computes the same codes, bit for bit.
#pragma once

#include "kernels/layer.h"
#include "kernels/model.h"

namespace qb {

struct AddTerms {
  int a_zero, b_zero;
  float a_ratio, b_ratio;
  int zero, lo, hi;
};

struct PoolWindow {
  int h, w, oh, ow;  // sizes in and out
  int kh, kw, sy, sx, top, left;
};

struct AvgTerms {
  int x_zero, zero, lo, hi;
  const float* multiplier;  // [oh][ow]
};

struct LrnTerms {
  int channels, before, after;  // the window over channels
  int x_zero, zero, lo, hi;
  double k, alpha;  // alpha / n * s_x^2
  double ratio;     // s_x / s_y
};

struct Kernels {
  const char* name;

  // What `conv` and `winograd` have code for, and how long it takes.
  ConvModel model;

  // Whether `conv` has code for this layer; the portable kernel has code for every layer.
  bool (*conv_fits)(const ConvLayer&);
  void (*conv)(const ConvLayer&, const ConvCall&);

  // Null where direct convolution is always as fast.
  void (*winograd)(const WinogradLayer&, const WinogradCall&);

  // Rows first..last of one channel block. Scratch: depthwise_scratch(layer) bytes.
  void (*depthwise)(const DepthwiseLayer&, const View& x, const View& y, int block, int first,
                    int last, std::uint8_t* scratch);

  // One group of 4 output blocks for every image. x, y: bytes between images; y is codes, or floats
  // when out.floats. Scratch: linear_scratch(layer) bytes.
  void (*linear)(const LinearLayer&, const std::uint8_t* x, std::int64_t x_image, int images,
                 std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t* scratch);

  // Codes of n floats t / scale; false when one of them is not a number.
  bool (*quantize)(const float* t, std::int64_t n, float scale, int zero, int lo, int hi,
                   std::uint8_t* y);

  // Rows of n codes of three planes, `plane` bytes apart, to n pixels of three bytes.
  void (*interleave)(const std::uint8_t* x, std::int64_t plane, std::int64_t n, std::uint8_t* y);

  // n codes each, a row of a plane.
  void (*lut)(const std::uint8_t* x, std::int64_t n, const std::uint8_t* table, std::uint8_t* y);
  void (*add)(const std::uint8_t* a, const std::uint8_t* b, std::int64_t n, const AddTerms&,
              std::uint8_t* y);

  // One block. Scratch: 16 bytes a column of the input for max, 64 for avg.
  void (*max_pool)(const PoolWindow&, const View& x, const View& y, std::uint8_t* scratch);
  void (*avg_pool)(const PoolWindow&, const AvgTerms&, const View& x, const View& y,
                   std::uint8_t* scratch);

  // `pixels` pixels of one row, all blocks. Scratch: lrn_scratch(channels) bytes.
  void (*lrn)(const LrnTerms&, const View& x, const View& y, int pixels, std::uint8_t* scratch);

  // Does nothing but multiply in registers, `rounds` times; returns the number of products: the
  // roof of a roofline plot.
  std::int64_t (*multiply)(std::int64_t rounds);
};

extern const Kernels kPortable;  // what others fall back to

inline std::int64_t conv_scratch(const ConvLayer& l) {
  return std::int64_t(l.group) * kAccumulators * 64;
}
inline std::int64_t winograd_scratch(const WinogradLayer& l) {
  return 16 * (l.inputs() + l.sums());
}
// Columns that a row of outputs reads.
inline std::int64_t depthwise_columns(const DepthwiseLayer& l) {
  return std::int64_t(l.ow - 1) * l.sx + std::int64_t(l.kw - 1) * l.dx + 1;
}
// Four rows, interleaved; as words they take twice that, and so do the filter and the shifted one.
inline std::int64_t depthwise_group(const DepthwiseLayer& l) {
  return ((depthwise_columns(l) + 3) / 4 * 4 + 4 * std::int64_t(l.sx)) * 64;
}
inline std::int64_t depthwise_scratch(const DepthwiseLayer& l) {
  return l.groups * (2 * depthwise_group(l) + 4 * std::int64_t(l.kw) * 64);
}
inline std::int64_t linear_scratch(const LinearLayer& l) { return std::int64_t(l.steps) * 4 * 64; }
inline std::int64_t lrn_scratch(const LrnTerms& t) {
  return 8 * (std::int64_t(t.channels) + t.before + t.after + 2 * kBlock);
}

}  // namespace qb
