// Convolutions of every geometry, as implicit GEMM.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "finish.h"
#include "op.h"
#include "tiling.h"

namespace qb {

void Outputs::fill(const ConvSpec& s, const std::vector<Tensor>& t, Pool& pool) {
  const Tensor &x = t[s.x], &y = t[s.y];
  const std::int64_t n = std::int64_t(y.blocks()) * kBlock, window = std::int64_t(s.ic) * s.kh * s.kw;
  bias.resize(n, pool), m.resize(n, pool), lo.resize(n, pool), hi.resize(n, pool);
  bool clamps = false;
  for (int o = 0; o < s.oc; o++) {
    std::int64_t sum = -window * s.weight_zero[o];
    for (std::int64_t i = 0; i < window; i++) sum += s.weight[o * window + i];
    bias[o] = std::int32_t(std::uint32_t(s.bias[o] - x.zero * sum));  // modulo 2^32: only the final sum has to fit
    m[o] = s.m[o];
    lo[o] = s.lo.empty() ? 0 : s.lo[o];
    hi[o] = s.hi.empty() ? 255 : s.hi[o];
    clamps |= lo[o] > 0 || hi[o] < 255;
  }
  requant = {m.data(), lo.data(), hi.data(), y.zero, clamps, s.r >= 0, s.r >= 0 ? t[s.r].zero : 0, s.ratio, y.floats};
}

std::int64_t accumulator_bound(const ConvSpec& s, const Tensor& x) {
  const std::int64_t window = std::int64_t(s.ic) * s.kh * s.kw;
  const int farthest = std::max(x.largest_code() - x.zero, x.zero - std::min(x.lo, x.zero));
  std::int64_t bound = 0;
  for (int o = 0; o < s.oc; o++) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < window; i++) sum += std::abs(s.weight[o * window + i] - s.weight_zero[o]);
    bound = std::max(bound, sum * farthest + std::abs(std::int64_t(s.bias[o])));
  }
  return bound;
}

bool fits_int32(const ConvSpec& s, const std::vector<Tensor>& t) {
  const double bound = double(accumulator_bound(s, t[s.x]));
  const double largest = double(*std::max_element(s.m.begin(), s.m.end()));
  return bound * largest + (s.r >= 0 ? 256.0 * s.ratio : 0) < double(1 << 30);
}

void widen_halo(Tensor& x, const ConvSpec& s, int oh, int ow) {
  x.top = std::max(x.top, s.top);
  x.left = std::max(x.left, s.left);
  x.bottom = std::max(x.bottom, (oh - 1) * s.sy + (s.kh - 1) * s.dy + 1 - s.top - x.h);
  x.right = std::max(x.right, (ow - 1) * s.sx + (s.kw - 1) * s.dx + 1 - s.left - x.w);
}

namespace {

constexpr int kChunk = 24;  // quads: 6 kB of weights a block
constexpr int kGroup = 8;   // tiles: 14 kB of sums

class Direct : public Op {
 public:
  explicit Direct(ConvSpec spec)
      : Op(spec.r < 0 ? std::vector<int>{spec.x} : std::vector<int>{spec.x, spec.r}, spec.y), s_(std::move(spec)) {}

  const char* kind() const override { return "conv"; }
  bool reads_packed() const override { return s_.r != 0 && s_.groups == 1 && s_.dx == 1 && s_.sx <= 2; }

  void require(std::vector<Tensor>& t) const override { widen_halo(t[s_.x], s_, t[s_.y].h, t[s_.y].w); }

  void prepare(const std::vector<Tensor>& t, const Kernels& kernels, int threads, Pool& pool) override {
    const Tensor &x = t[s_.x], &y = t[s_.y];
    outputs_.fill(s_, t, pool);
    layer_.bias = outputs_.bias.data();
    layer_.out = outputs_.requant;
    flat_ = s_.kh == 1 && s_.kw == 1 && s_.sy == 1 && s_.sx == 1 && x.h == y.h && x.w == y.w && !x.packed &&
            dense(x) && dense(y) && (s_.r < 0 || dense(t[s_.r]));
    layer_.oh = flat_ ? 1 : y.h, layer_.ow = flat_ ? y.h * y.w : y.w;
    layer_.x_step = s_.sx * x.pixel, layer_.y_step = s_.sy * x.row;
    tiling_ = std::make_unique<Tiling>(layer_.ow);
    tiling_->give(layer_);
    layer_.chunk = kChunk, layer_.group = kGroup;
    pack(x, pool);
    layer_.narrow = narrow(x.largest_code());
    kernels_ = fits_int32(s_, t) && kernels.conv_fits(layer_) ? &kernels : &kPortable;
    const std::int64_t tiles = std::int64_t(layer_.oh) * layer_.tile_count[1];
    chunks_ = threads == 1 ? 1 : std::max<std::int64_t>(1, std::min<std::int64_t>(tiles, 4 * threads / layer_.strip_count));
    s_.weight = {};
  }

  std::int64_t scratch() const override { return conv_scratch(layer_); }
  double operations(const std::vector<Tensor>& t) const override { return s_.operations(t); }
  std::int64_t weight_bytes() const override { return std::int64_t(s_.oc) * s_.ic * s_.kh * s_.kw; }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const std::int64_t strips = layer_.strip_count, chunks = run.team() == 1 ? 1 : chunks_;
    run.each(strips * chunks * run.images, [&](std::int64_t item, int thread) {
      // Large weights stay in the cache while all images pass; small ones are cheaper to read again.
      const std::int64_t strip = weights_first_ ? item / (chunks * run.images) : item / chunks % strips;
      const std::int64_t n = run.first + (weights_first_ ? item / chunks % run.images : item / (chunks * strips));
      const std::int64_t chunk = item % chunks;
      ConvCall call{t[s_.x].view(n), t[s_.y].view(n), s_.r < 0 ? View{} : t[s_.r].view(n), int(strip), 0, 0, run.scratch_of(thread)};
      call.x.data -= s_.top * call.x.row + s_.left * call.x.pixel;
      const std::int64_t row = layer_.tile_count[strips_[strip].cut()];
      call.first = cut(row, chunk, chunks), call.last = cut(row, chunk + 1, chunks);
      kernels_->conv(layer_, call);
    });
  }

 private:
  // The first tile of a chunk; never the last one of a row, which may overlap, and then writes again, the one before.
  std::int64_t cut(std::int64_t row, std::int64_t chunk, std::int64_t chunks) const {
    const std::int64_t at = row * layer_.oh * chunk / chunks;
    return at + (row > 1 && at % row == row - 1);
  }

  static bool dense(const Tensor& t) { return !t.left && !t.right; }  // rows follow each other without gaps

  // Cuts outputs into panels, of equal steps, and packs their weights strip by strip.
  void pack(const Tensor& x, Pool& pool) {
    const int per_group = s_.oc / s_.groups, blocks = (s_.oc + kBlock - 1) / kBlock;
    const bool whole = per_group % kBlock == 0;  // groups of whole blocks: a panel each, else one panel for a block
    const int panels = s_.groups == 1 ? 1 : whole ? s_.groups : blocks;
    std::vector<std::int8_t> packed;
    std::vector<std::size_t> weight_at, offset_at;
    for (int p = 0; p < panels; p++) {
      const int first = s_.groups == 1 ? 0 : whole ? p * per_group / kBlock : p;
      const int count = s_.groups == 1 ? blocks : whole ? per_group / kBlock : 1;
      const std::vector<Step> steps = ordered(all_steps(x, first, count), first, count);
      offset_at.push_back(offsets_.size() - panels_.back().quads - panels_.back().singles);
      for (const Strip& strip : tiling_->strips(p, first, count, panels_.back().columns)) {
        weight_at.push_back(packed.size());
        strips_.push_back(strip);
        for (std::size_t k = 0; k < steps.size(); k++) {
          const Step& step = steps[strip.columns ? k / 12 * 12 + k % 3 * 4 + k % 12 / 3 : k];
          const auto from = step.weight.begin() + (strip.block - first) * 64;
          packed.insert(packed.end(), from, from + strip.blocks * 64);
        }
      }
    }
    weights_.resize(std::int64_t(packed.size()), pool);
    std::copy(packed.begin(), packed.end(), weights_.data());
    for (std::size_t p = 0; p < panels_.size(); p++) panels_[p].offset = offsets_.data() + offset_at[p];
    for (std::size_t i = 0; i < strips_.size(); i++) strips_[i].weight = weights_.data() + weight_at[i];
    layer_.panels = panels_.data(), layer_.strips = strips_.data(), layer_.strip_count = int(strips_.size());
    weights_first_ = packed.size() > (1 << 18);
  }

  // A step reads four bytes: four channels of a tap, or four bytes of a row of taps where pixels are packed.
  struct Source {
    int offset, ky, kx, channel;  // of the first byte
  };

  std::vector<Source> sources(const Tensor& x, int first, int count) const {
    std::vector<Source> all;
    const int per_group = s_.oc / s_.groups, last = std::min(s_.oc, (first + count) * kBlock) - 1;
    const int low = first * kBlock / per_group * s_.ic / kStep * kStep, high = (last / per_group + 1) * s_.ic;
    if (x.packed) {
      for (int ky = 0; ky < s_.kh; ky++)
        for (int j = 0; j < s_.kw * x.c; j += kStep)
          all.push_back({int(std::int64_t(ky) * s_.dy * x.row + j), ky, j / x.c, j % x.c});
      return all;
    }
    for (int block = low / kBlock * kBlock; block < high; block += kBlock)  // all taps of a block while it is cached
      for (int ky = 0; ky < s_.kh; ky++)
        for (int kx = 0; kx < s_.kw; kx++) {
          const std::int64_t at = block / kBlock * x.plane + ky * s_.dy * x.row + kx * s_.dx * x.pixel;
          for (int c = std::max(block, low); c < std::min(block + kBlock, high); c += kStep)
            all.push_back({int(at + c - block), ky, kx, c});
        }
    return all;
  }

  // Weight of output o at byte `j` of a step; 0 outside of the filter, the group and the outputs.
  int weight(const Tensor& x, const Source& at, int j, int o) const {
    int c = at.channel + j, kx = at.kx;
    if (x.packed) kx += c / x.c, c %= x.c;
    if (o >= s_.oc || kx >= s_.kw) return 0;
    const int in_group = c - o / (s_.oc / s_.groups) * s_.ic;
    return in_group < 0 || in_group >= s_.ic ? 0 : s_.value(o, in_group, at.ky, kx);
  }

  struct Step {
    int offset;
    std::vector<std::int8_t> weight;  // [output][4]
  };

  // Values outside of int8 (8-bit weights with zero points) are sums of several steps on the same inputs.
  std::vector<Step> all_steps(const Tensor& x, int first, int count) const {
    std::vector<Step> all;
    const int outs = count * kBlock;
    for (const Source& at : sources(x, first, count)) {
      std::vector<int> rest(std::size_t(outs) * kStep);
      for (int o = 0; o < outs; o++)
        for (int j = 0; j < kStep; j++) rest[o * kStep + j] = weight(x, at, j, first * kBlock + o);
      while (std::any_of(rest.begin(), rest.end(), [](int v) { return v != 0; })) {
        std::vector<std::int8_t> part(rest.size());
        for (std::size_t i = 0; i < rest.size(); i++) {
          part[i] = std::int8_t(std::min(127, std::max(-128, rest[i])));
          rest[i] -= part[i];
        }
        all.push_back({at.offset, std::move(part)});
      }
    }
    return all;
  }

  // Quads first; adds the panel and its offsets.
  std::vector<Step> ordered(std::vector<Step> all, int first, int count) {
    std::vector<Step> quads, singles;
    for (std::size_t i = 0; i < all.size();) {
      bool quad = i + 4 <= all.size();
      for (int k = 1; quad && k < 4; k++) quad = all[i + k].offset == all[i].offset + k * kStep;
      if (quad) offsets_.push_back(all[i].offset);
      for (const std::size_t end = i + (quad ? 4 : 1); i < end; i++)
        (quad ? quads : singles).push_back(std::move(all[i]));
    }
    for (const Step& s : singles) offsets_.push_back(s.offset);
    panels_.push_back({first, count, int(quads.size() / 4), int(singles.size()), nullptr, columns(quads, singles)});
    std::move(singles.begin(), singles.end(), std::back_inserter(quads));
    return quads;
  }

  bool columns(const std::vector<Step>& quads, const std::vector<Step>& singles) const {
    if (!singles.empty() || quads.empty() || quads.size() % 12 || layer_.x_step != kBlock) return false;
    for (std::size_t k = 0; k < quads.size(); k++)
      if (quads[k].offset != quads[k / 12 * 12].offset + int(k % 12) * kStep) return false;
    return true;
  }

  bool narrow(int largest) const {
    for (std::int64_t i = 0; i < weights_.size(); i += 2) {
      const int a = weights_[i], b = weights_[i + 1];
      if (largest * (std::max(a, 0) + std::max(b, 0)) > 32767 || largest * (std::min(a, 0) + std::min(b, 0)) < -32768)
        return false;
    }
    return true;
  }

  ConvSpec s_;
  ConvLayer layer_{};
  Outputs outputs_;
  const Kernels* kernels_ = &kPortable;
  std::unique_ptr<Tiling> tiling_;
  Aligned<std::int8_t> weights_;
  std::vector<std::int32_t> offsets_;
  std::vector<Panel> panels_;
  std::vector<Strip> strips_;
  std::int64_t chunks_ = 1;
  bool flat_ = false, weights_first_ = false;
};

}  // namespace

std::unique_ptr<Op> make_direct(ConvSpec s) { return std::make_unique<Direct>(std::move(s)); }

}  // namespace qb
