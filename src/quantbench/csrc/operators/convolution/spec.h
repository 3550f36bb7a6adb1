// A convolution as the program gives it, and what every form of it shares.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "operators/op.h"

namespace qb {

// A convolution as the program gives it.
struct ConvSpec {
  int x, r, y;         // tensors; r < 0 without a residual
  int oc, ic, kh, kw;  // ic: per group
  int sy, sx, top, left, bottom, right, dy, dx, groups;
  std::vector<std::int8_t> weight;  // (oc, ic, kh, kw)
  std::vector<std::int16_t> weight_zero;
  std::vector<std::int32_t> bias;
  std::vector<float> m;
  std::vector<std::uint8_t> lo, hi;
  float ratio;  // of the residual

  std::vector<int> inputs() const { return r < 0 ? std::vector<int>{x} : std::vector<int>{x, r}; }
  int value(std::int64_t o, std::int64_t i, std::int64_t ky, std::int64_t kx) const {
    return weight[((o * ic + i) * kh + ky) * kw + kx] - weight_zero[o];
  }
  // Of an image.
  double operations(const std::vector<Tensor>& t) const {
    return double(t[y].codes()) * ic * kh * kw;
  }
};

// The parts of a layer that depend on output channels alone, filled up to whole blocks.
struct Outputs {
  Aligned<std::int32_t> bias;  // zero points of the input folded in
  Aligned<float> m;
  Aligned<std::uint8_t> lo, hi;
  Requant requant;

  void fill(const ConvSpec&, const std::vector<Tensor>&, Pool&);
};

// Largest |acc| over all outputs and inputs.
std::int64_t accumulator_bound(const ConvSpec&, const Tensor& x);
// Grows the halo of x so that windows of (kh, kw) reach `oh` x `ow` outputs without leaving it.
void widen_halo(Tensor& x, const ConvSpec&, int oh, int ow);

// How Winograd computes a layer exactly.
struct WinogradForm {
  int width = 0;  // bytes of a transformed input and of a weight; 0: it does not
  std::vector<std::int32_t> lengths;  // of runs of steps of bytes, for sets that ask for runs
};
WinogradForm winograd_form(const ConvSpec&, const std::vector<Tensor>&, const ConvModel&);
// Whether it is faster, by a model of both.
bool winograd_pays(const ConvSpec&, const std::vector<Tensor>&, const ConvModel&,
                   const WinogradForm&);

// The forms, of which make_conv (conv.cpp) takes the fastest that fits.
std::unique_ptr<Op> make_direct(ConvSpec);
std::unique_ptr<Op> make_winograd(ConvSpec, WinogradForm);
std::unique_ptr<Op> make_depthwise(ConvSpec);
std::unique_ptr<Op> make_linear(ConvSpec);

}  // namespace qb
