#include "operators/tensor.h"

#include <cstring>

#include "base/checks.h"

namespace qb {

Tensor tensor(std::array<int, 3> shape, int zero, int lo, int hi) {
  for (int n : shape) require(1 <= n && n <= kLargest, "a shape outside of 1..65536");
  require(0 <= zero && zero <= 255 && 0 <= lo && lo <= hi && hi <= 255, "codes outside of 0..255");
  require(std::int64_t(shape[0]) * shape[1] * shape[2] < std::int64_t(1) << 31,
          "a tensor of more than 2^31 codes");
  Tensor t;
  t.c = shape[0], t.h = shape[1], t.w = shape[2], t.zero = zero, t.lo = lo, t.hi = hi;
  return t;
}

void to_dense(const Tensor& t, std::int64_t n, std::uint8_t* dense) {
  const View v = t.view(n);
  const int size = t.floats ? 4 : 1;
  if (t.vector()) {
    std::memcpy(dense, v.data, std::size_t(t.c) * size);
    return;
  }
  for (int c = 0; c < t.c; c++)
    for (int r = 0; r < t.h; r++) {
      const std::uint8_t* from =
          v.data + r * v.row +
          (t.packed ? c : c / kBlock * v.plane + c % kBlock * std::int64_t(size));
      for (int p = 0; p < t.w; p++, dense += size) std::memcpy(dense, from + p * v.pixel, size);
    }
}

void from_dense(const Tensor& t, std::int64_t n, const std::uint8_t* dense) {
  const View v = t.view(n);
  for (int c = 0; c < t.c; c++)
    for (int r = 0; r < t.h; r++) {
      std::uint8_t* to = v.data + r * v.row + (t.packed ? c : c / kBlock * v.plane + c % kBlock);
      for (int p = 0; p < t.w; p++) to[p * v.pixel] = *dense++;
    }
}

void fill_halo(const Tensor& t, std::int64_t n) {
  const std::int64_t planes = t.packed ? 1 : t.blocks(), width = t.w * t.pixel,
                     left = t.left * t.pixel;
  const std::int64_t right = t.right * t.pixel;
  for (std::int64_t b = 0; b < planes; b++) {
    std::uint8_t* start = t.data - t.origin() + n * t.image + b * t.plane;
    // From the top to the first row's left edge, from each row's right edge to the next one's left,
    // and the rest.
    std::memset(start, t.zero, std::size_t(t.top * t.row + left));
    std::uint8_t* edge = start + t.origin() + width;
    if (left + right > 0)
      for (int r = 0; r + 1 < t.h; r++, edge += t.row)
        std::memset(edge, t.zero, std::size_t(left + right));
    edge = start + t.origin() + (t.h - 1) * t.row + width;
    std::memset(edge, t.zero, std::size_t(t.bottom * t.row + right));
  }
}

}  // namespace qb
