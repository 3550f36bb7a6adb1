#include "operators/convolution/spec.h"

#include <algorithm>
#include <cmath>

namespace qb {

namespace {

bool far_from_zero(const ConvSpec& s, const Tensor& x) {
  const double m = *std::max_element(s.m.begin(), s.m.end());
  const double residual = s.r >= 0 ? 256.0 * s.ratio : 0;
  return !(double(accumulator_bound(s, x)) * m + residual < 0x1p30);
}

}  // namespace

void Outputs::fill(const ConvSpec& s, const std::vector<Tensor>& t, Pool& pool) {
  const Tensor &x = t[s.x], &y = t[s.y];
  const std::int64_t n = std::int64_t(y.blocks()) * kBlock;
  const std::int64_t window = std::int64_t(s.ic) * s.kh * s.kw;
  bias.resize(n, pool), m.resize(n, pool), lo.resize(n, pool), hi.resize(n, pool);
  bool clamps = false;
  for (int o = 0; o < s.oc; o++) {
    std::int64_t sum = -window * s.weight_zero[o];
    for (std::int64_t i = 0; i < window; i++) sum += s.weight[o * window + i];
    // sum (x - x_zero) w + bias = sum x w + (bias - x_zero sum w), modulo 2^32: only the final sum
    // has to fit.
    bias[o] = std::int32_t(std::uint32_t(s.bias[o] - x.zero * sum));
    m[o] = s.m[o];
    lo[o] = s.lo.empty() ? 0 : s.lo[o];
    hi[o] = s.hi.empty() ? 255 : s.hi[o];
    clamps |= lo[o] > 0 || hi[o] < 255;
  }
  requant = {.m = m.data(),
             .lo = lo.data(),
             .hi = hi.data(),
             .zero = y.zero,
             .clamps = clamps,
             .far = far_from_zero(s, x),
             .residual = s.r >= 0,
             .r_zero = s.r >= 0 ? t[s.r].zero : 0,
             .ratio = s.ratio,
             .floats = y.floats};
}

std::int64_t accumulator_bound(const ConvSpec& s, const Tensor& x) {
  const std::int64_t window = std::int64_t(s.ic) * s.kh * s.kw;
  const int farthest = std::max(x.largest_code() - x.zero, x.zero - std::min(x.lo, x.zero));
  std::int64_t bound = 0;
  for (int o = 0; o < s.oc; o++) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < window; i++)
      sum += std::abs(s.weight[o * window + i] - s.weight_zero[o]);
    bound = std::max(bound, sum * farthest + std::abs(std::int64_t(s.bias[o])));
  }
  return bound;
}

void widen_halo(Tensor& x, const ConvSpec& s, int oh, int ow) {
  x.top = std::max(x.top, s.top);
  x.left = std::max(x.left, s.left);
  x.bottom = std::max(x.bottom, (oh - 1) * s.sy + (s.kh - 1) * s.dy + 1 - s.top - x.h);
  x.right = std::max(x.right, (ow - 1) * s.sx + (s.kw - 1) * s.dx + 1 - s.left - x.w);
}

}  // namespace qb
