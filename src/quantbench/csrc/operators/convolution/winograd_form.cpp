// Whether Winograd is exact for a layer, in what width, and whether it is faster.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "operators/convolution/runs.h"
#include "operators/convolution/tiling.h"
#include "operators/convolution/winograd.h"

namespace qb {
namespace {

// Lengths of runs (layer.h, Runs) that hold at every position and output, for inputs up to
// `largest`. Empty where a single step leaves int16.
std::vector<std::int32_t> runs_of(const ConvSpec& s, int largest) {
  const Room room(largest);
  std::vector<std::array<int, 2>> reach;  // [output][position][pair], of positive and of negative
  std::vector<std::int32_t> lengths;
  reach.resize(std::size_t(s.oc) * 32);
  std::vector<Filter> filters(std::size_t(s.oc) * kStep);
  for (int i = 0; i < s.ic; i += kStep) {
    for (int o = 0; o < s.oc; o++)
      for (int j = 0; j < kStep; j++)
        filters[std::size_t(o * kStep + j)] = i + j < s.ic ? transform(s, o, i + j) : Filter{};
    const auto add = [&] {
      bool fits = true;
      for (std::size_t at = 0; at < reach.size(); at++) {
        const Filter* four = &filters[at / 32 * kStep];
        const int a = four[at % 2 * 2][at / 2 % 16], b = four[at % 2 * 2 + 1][at / 2 % 16];
        reach[at][0] += std::max(a, 0) + std::max(b, 0);
        reach[at][1] += std::min(a, 0) + std::min(b, 0);
        fits = fits && reach[at][0] <= room.high && reach[at][1] >= room.low;
      }
      return fits;
    };
    if (!lengths.empty() && add()) {
      lengths.back()++;
      continue;
    }
    std::fill(reach.begin(), reach.end(), std::array<int, 2>{});
    if (!add()) return {};
    lengths.push_back(1);
  }
  return lengths;
}

bool fits_bytes(const ConvSpec& s, const Tensor& x) {
  if (x.largest_code() > 63) return false;
  for (int o = 0; o < s.oc; o++)
    for (int i = 0; i < s.ic; i++)
      for (int u : transform(s, o, i))
        if (u < -128 || u > 127) return false;
  return true;
}

// A direct step by one in a long run (pairing.cpp): weights up to 15 fill long runs; larger ones
// take 6 to 8 instructions and 3 multiplications where long ones take 5 and little more than 2.
double direct_step(const ConvSpec& s, const Tensor& x, const ConvModel& m) {
  if (!m.runs) return 1;
  int largest = 1;
  for (std::int64_t i = 0, window = std::int64_t(s.ic) * s.kh * s.kw; i < s.oc * window; i++)
    largest = std::max(largest, std::abs(s.weight[i] - s.weight_zero[i / window]));
  return 2 * largest * 4 <= Room(x.largest_code()).high ? 1 : 1.5;
}

// Nanoseconds an image, by the instruction set's model.
double direct_cost(const ConvSpec& s, const Tensor& x, const Tensor& y, const ConvModel& m) {
  const double step = Tiling(y.w, m).best(y.blocks(), s.ic % kBlock == 0);
  const double row =
      direct_step(s, x, m) * step * 9 * ((s.ic + 3) / 4) + m.direct.store * y.w * y.blocks();
  return y.h * row + m.direct.weight * 9 * s.ic * s.oc;
}

double winograd_cost(const ConvSpec& s, const Tensor& x, const Tensor& y, const ConvModel& m,
                     int width) {
  const ConvModel::Winograd& around = width == 1 ? m.winograd : m.words;
  const int tiles = tiles_of(y.h) * tiles_of(y.w), chunk = chunk_of(tiles);
  const double chunks = std::ceil(double(tiles) / chunk);
  const Tiling tiling(chunk, m);
  double calls = 0;
  for (const Strip& strip : tiling.strips(0, 0, y.blocks(), false))
    calls += double(tiling.tiles[strip.blocks].size());
  const int per_step = kStep / width, steps = (s.ic + per_step - 1) / per_step;
  const double position = tiling.best(y.blocks(), false) * steps + around.call * calls;
  const double transforms = around.inputs * x.blocks() + around.outputs * y.blocks();
  return chunks * 16 * position + tiles * transforms + around.weight * 16 * s.ic * s.oc;
}

}  // namespace

// (2G) g (2G)^T of one input and output channel, by rows.
Filter transform(const ConvSpec& s, int o, int i) {
  const auto expand = [](int a, int b, int c) {
    return std::array<int, 4>{2 * a, a + b + c, a - b + c, 2 * c};
  };
  std::array<std::array<int, 4>, 3> columns;  // 2G applied to each column of g
  for (int x = 0; x < 3; x++)
    columns[x] = expand(s.value(o, i, 0, x), s.value(o, i, 1, x), s.value(o, i, 2, x));
  Filter u;
  for (int y = 0; y < 4; y++) {
    const auto row = expand(columns[0][y], columns[1][y], columns[2][y]);
    std::copy(row.begin(), row.end(), u.begin() + 4 * y);
  }
  return u;
}

WinogradForm winograd_form(const ConvSpec& s, const std::vector<Tensor>& t,
                           const ConvModel& model) {
  const Tensor& x = t[s.x];
  if (s.kh != 3 || s.kw != 3 || s.sy != 1 || s.sx != 1 || s.dy != 1 || s.dx != 1 || s.groups != 1)
    return {};
  if (t[s.y].floats || 4 * accumulator_bound(s, x) >= std::int64_t(1) << 31) return {};
  if (fits_bytes(s, x)) {
    if (!model.runs) return {.width = 1, .lengths = {}};
    std::vector<std::int32_t> lengths = runs_of(s, 4 * x.largest_code());
    if (!lengths.empty()) return {.width = 1, .lengths = std::move(lengths)};
  }
  // Inputs lie in -510 .. 1020, weights in 9 * -383 .. 9 * 383: always words.
  return {.width = model.words.call > 0 ? 2 : 0, .lengths = {}};
}

bool winograd_pays(const ConvSpec& s, const std::vector<Tensor>& t, const ConvModel& model,
                   const WinogradForm& form) {
  return winograd_cost(s, t[s.x], t[s.y], model, form.width) <
         direct_cost(s, t[s.x], t[s.y], model);
}

}  // namespace qb
