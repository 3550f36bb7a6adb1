// One activation of the network: what it means, and where its bytes lie.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/layer.h"

namespace qb {

struct Tensor {
  int c = 0, h = 0, w = 0;
  int zero = 0, lo = 0, hi = 255;  // codes; `zero` may lie outside of lo..hi
  bool floats = false;

  // Decided once all operators are known.
  int top = 0, left = 0, bottom = 0, right = 0;  // halo
  bool packed = false;                // rows of pixels of c bytes: images of the first convolution
  int parent = -1, parent_block = 0;  // blocks of another tensor: inputs of a concatenation

  std::int64_t pixel = 0, row = 0, plane = 0, image = 0;  // distances in bytes
  std::uint8_t* data = nullptr;  // image 0, block 0, row 0, column 0, inside the halo

  std::int64_t codes() const { return std::int64_t(c) * h * w; }
  // Of an image, channels in order.
  std::int64_t result_bytes() const { return codes() * (floats ? 4 : 1); }
  bool same_shape(const Tensor& t) const { return c == t.c && h == t.h && w == t.w; }
  int blocks() const { return (c + kBlock - 1) / kBlock; }
  // Channels in a row.
  bool vector() const { return h == 1 && w == 1 && !packed && !has_halo() && plane == pixel; }
  bool has_halo() const { return top || left || bottom || right; }
  int largest_code() const { return hi > zero ? hi : zero; }
  View view(std::int64_t n) const { return {data + n * image, plane, row, pixel}; }

  void lay_out() {
    pixel = packed ? c : floats ? 4 * kBlock : kBlock;
    row = (left + std::int64_t(w) + right) * pixel;
    plane = (top + std::int64_t(h) + bottom) * row;
    // Planes at an odd number of cache lines: otherwise those of one pixel may all fall into the
    // same few cache sets.
    if (!packed && blocks() > 1 && plane >= 1024) plane = ((plane + 63) / 64 | 1) * 64;
    image = one_image();
  }
  // The last step of a packed row reads up to three bytes more.
  std::int64_t bytes(std::int64_t images) const {
    return images * one_image() + (packed ? kStep : 0);
  }
  std::int64_t one_image() const { return packed ? plane : blocks() * plane; }
  std::int64_t origin() const { return top * row + left * pixel; }
};

// Codes of shape (c, h, w). Throws std::invalid_argument for sizes or codes out of range.
Tensor tensor(std::array<int, 3> shape, int zero, int lo, int hi);

// Between the blocks of an image and its channels in order; `n` counts images from the tensor's
// first.
void to_dense(const Tensor&, std::int64_t n, std::uint8_t* dense);
void from_dense(const Tensor&, std::int64_t n, const std::uint8_t* dense);
// The zero point in the border of image n.
void fill_halo(const Tensor&, std::int64_t n);

}  // namespace qb
