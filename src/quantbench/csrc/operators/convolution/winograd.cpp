// 3x3 convolutions of stride 1 whose transforms fit 8 bits, where that saves time.
#include <algorithm>
#include <array>
#include <cmath>

#include "operators/convolution/runs.h"
#include "operators/convolution/spec.h"
#include "operators/convolution/tiling.h"

namespace qb {
namespace {

using Filter = std::array<int, 16>;  // by position
constexpr int kPlain = 5;  // position (1, 1): no shift of its inputs, and the bias in its sums

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

int tiles_of(int size) { return (size + 1) / 2; }

// Tiles to transform together: about 16, so that their sums stay near the core; all chunks alike.
int chunk_of(std::int64_t tiles) {
  const std::int64_t chunks = std::max<std::int64_t>(1, (tiles + 8) / 16);
  return int((tiles + chunks - 1) / chunks);
}

// Nanoseconds an image, by the instruction set's model.
double direct_cost(const ConvSpec& s, const Tensor& y, const ConvModel& m) {
  const double step = Tiling(y.w, m).best(y.blocks(), s.ic % kBlock == 0);
  const double row = step * 9 * ((s.ic + 3) / 4) + m.direct.store * y.w * y.blocks();
  return y.h * row + m.direct.weight * 9 * s.ic * s.oc;
}

double winograd_cost(const ConvSpec& s, const Tensor& x, const Tensor& y, const ConvModel& m) {
  const int tiles = tiles_of(y.h) * tiles_of(y.w), chunk = chunk_of(tiles);
  const double chunks = std::ceil(double(tiles) / chunk);
  const Tiling tiling(chunk, m);
  double calls = 0;
  for (const Strip& strip : tiling.strips(0, 0, y.blocks(), false))
    calls += double(tiling.tiles[strip.blocks].size());
  const double position =
      tiling.best(y.blocks(), false) * ((s.ic + 3) / 4) + m.winograd.call * calls;
  const double transforms = m.winograd.inputs * x.blocks() + m.winograd.outputs * y.blocks();
  return chunks * 16 * position + tiles * transforms + m.winograd.weight * 16 * s.ic * s.oc;
}

class Winograd : public Op {
 public:
  explicit Winograd(ConvSpec spec) : Op(spec.inputs(), spec.y), s_(std::move(spec)) {}

  const char* kind() const override { return "winograd"; }

  // Tiles are whole, beyond an odd last row or column too.
  void require(std::vector<Tensor>& t) const override {
    widen_halo(t[s_.x], s_, 2 * tiles_of(t[s_.y].h), 2 * tiles_of(t[s_.y].w));
  }

  void prepare(const std::vector<Tensor>& t, const Kernels& kernels, int, Pool& pool) override {
    const Tensor &x = t[s_.x], &y = t[s_.y];
    kernels_ = &kernels;
    outputs_.fill(s_, t, pool);
    for (int o = 0; o < s_.oc; o++) outputs_.m[o] *= 0.25f;  // exact
    layer_.in_blocks = x.blocks(), layer_.steps = (s_.ic + kStep - 1) / kStep;
    layer_.oh = y.h, layer_.ow = y.w, layer_.tile_rows = tiles_of(y.h),
    layer_.tile_columns = tiles_of(y.w);
    layer_.shift = 2 * x.largest_code();
    layer_.out = outputs_.requant, layer_.out_blocks = y.blocks();
    layer_.chunk = chunk_of(std::int64_t(layer_.tile_rows) * layer_.tile_columns);
    tiling_ = std::make_unique<Tiling>(layer_.chunk, kernels.model);
    tiling_->give(layer_);
    place_steps(kernels.model.runs);
    if (kernels.model.runs) lengths_ = runs_of(s_, 4 * x.largest_code());
    layer_.length = lengths_.data(), layer_.runs = int(lengths_.size());
    pack(pool);
    s_.weight = {};
  }

  std::int64_t scratch() const override { return winograd_scratch(layer_); }
  double operations(const std::vector<Tensor>& t) const override { return s_.operations(t); }
  std::int64_t weight_bytes() const override { return std::int64_t(s_.oc) * s_.ic * 16; }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &x = t[s_.x], &y = t[s_.y];
    const std::int64_t tiles = std::int64_t(layer_.tile_rows) * layer_.tile_columns * run.images;
    const std::int64_t chunks = (tiles + layer_.chunk - 1) / layer_.chunk;
    // More threads than chunks share a chunk's strips; each then transforms the inputs itself.
    const int team = run.team();
    const int parts =
        team == 1 ? 1 : int(std::min<std::int64_t>(layer_.strip_count, 1 + 2 * team / chunks));
    run.each(chunks * parts, [&](std::int64_t item, int thread) {
      const std::int64_t part = item % parts, first = item / parts * layer_.chunk;
      WinogradCall call{.x = x.view(run.first),
                        .y = y.view(run.first),
                        .r = s_.r < 0 ? View{} : t[s_.r].view(run.first),
                        .x_image = x.image,
                        .y_image = y.image,
                        .r_image = s_.r < 0 ? 0 : t[s_.r].image,
                        .first = first,
                        .last = std::min(tiles, first + layer_.chunk),
                        .first_strip = int(layer_.strip_count * part / parts),
                        .last_strip = int(layer_.strip_count * (part + 1) / parts),
                        .scratch = run.scratch_of(thread)};
      call.x.data -= s_.top * x.row + s_.left * x.pixel;
      kernels_->winograd(layer_, call);
    });
  }

 private:
  void place_steps(bool each) {
    const std::int64_t block = layer_.slots() * kBlock;
    for (int k = 0; k < layer_.steps; k++)
      if (each || k % 4 == 0 || k / 4 == layer_.steps / 4)  // a step, or a whole quad's first
        offsets_.push_back(int(k / 4 * block) + k % 4 * kStep);
    layer_.offset = offsets_.data();
  }

  void pack(Pool& pool) {
    const std::int64_t outs = std::int64_t(layer_.out_blocks) * kBlock;
    const std::int64_t position = layer_.steps * 64;
    strips_ = tiling_->strips(0, 0, layer_.out_blocks, false);
    weights_.resize(16 * layer_.out_blocks * position, pool);
    std::vector<std::uint32_t> start(16 * outs);  // modulo 2^32: only final sums have to fit
    std::int8_t* to = weights_.data();
    for (Strip& strip : strips_) {
      strip.weight = to;
      const int first = strip.block * kBlock, last = std::min(s_.oc, first + strip.blocks * kBlock);
      for (int o = first; o < last; o++)
        for (int i = 0; i < s_.ic; i++) {
          const Filter u = transform(s_, o, i);
          const std::int64_t at =
              (std::int64_t(i / kStep) * strip.blocks * kBlock + o - first) * kStep + i % kStep;
          for (int p = 0; p < 16; p++) {
            to[p * position * strip.blocks + at] = std::int8_t(u[p]);
            if (p != kPlain) start[p * outs + o] -= std::uint32_t(layer_.shift * u[p]);
          }
        }
      to += 16 * position * strip.blocks;
    }
    start_.resize(16 * outs, pool);
    for (int o = 0; o < s_.oc; o++) start[kPlain * outs + o] += 4 * std::uint32_t(outputs_.bias[o]);
    for (std::int64_t i = 0; i < 16 * outs; i++) start_[i] = std::int32_t(start[i]);
    layer_.start = start_.data();
    layer_.strips = strips_.data(), layer_.strip_count = int(strips_.size());
  }

  ConvSpec s_;
  WinogradLayer layer_{};
  Outputs outputs_;
  const Kernels* kernels_ = &kPortable;
  std::unique_ptr<Tiling> tiling_;
  std::vector<std::int32_t> offsets_, lengths_;
  std::vector<Strip> strips_;
  Aligned<std::int8_t> weights_;
  Aligned<std::int32_t> start_;
};

}  // namespace

bool winograd_fits(const ConvSpec& s, const std::vector<Tensor>& t, const ConvModel& model) {
  const Tensor& x = t[s.x];
  if (s.kh != 3 || s.kw != 3 || s.sy != 1 || s.sx != 1 || s.dy != 1 || s.dx != 1 || s.groups != 1)
    return false;
  if (t[s.y].floats || x.largest_code() > 63) return false;
  if (4 * accumulator_bound(s, x) >= std::int64_t(1) << 31) return false;
  for (int o = 0; o < s.oc; o++)
    for (int i = 0; i < s.ic; i++)
      for (int u : transform(s, o, i))
        if (u < -128 || u > 127) return false;
  return !model.runs || !runs_of(s, 4 * x.largest_code()).empty();
}

bool winograd_pays(const ConvSpec& s, const std::vector<Tensor>& t, const ConvModel& model) {
  return winograd_cost(s, t[s.x], t[s.y], model) < direct_cost(s, t[s.y], model);
}

std::unique_ptr<Op> make_winograd(ConvSpec s) { return std::make_unique<Winograd>(std::move(s)); }

}  // namespace qb
