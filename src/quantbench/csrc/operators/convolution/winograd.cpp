// 3x3 convolutions of stride 1, where Winograd's form saves time.
#include <algorithm>
#include <cstring>

#include "operators/convolution/tiling.h"
#include "operators/convolution/winograd.h"

namespace qb {
namespace {

constexpr int kPlain = 5;  // position (1, 1): no shift of its inputs, and the bias in its sums

class Winograd : public Op {
 public:
  Winograd(ConvSpec spec, WinogradForm form)
      : Op(spec.inputs(), spec.y), s_(std::move(spec)), form_(std::move(form)) {}

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
    layer_.width = form_.width;
    layer_.in_blocks = x.blocks(), layer_.steps = (s_.ic + per_step() - 1) / per_step();
    layer_.oh = y.h, layer_.ow = y.w, layer_.tile_rows = tiles_of(y.h),
    layer_.tile_columns = tiles_of(y.w);
    layer_.shift = form_.width == 1 ? 2 * x.largest_code() : 0;
    layer_.out = outputs_.requant, layer_.out_blocks = y.blocks();
    layer_.chunk = chunk_of(std::int64_t(layer_.tile_rows) * layer_.tile_columns);
    tiling_ = std::make_unique<Tiling>(layer_.chunk, kernels.model);
    tiling_->give(layer_);
    place_steps(kernels.model.runs);
    layer_.length = form_.lengths.data(), layer_.runs = int(form_.lengths.size());
    pack(pool);
    s_.weight = {};
  }

  std::int64_t scratch() const override { return winograd_scratch(layer_); }
  double operations(const std::vector<Tensor>& t) const override { return s_.operations(t); }
  std::int64_t weight_bytes() const override {
    return std::int64_t(s_.oc) * s_.ic * 16 * form_.width;
  }

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
  int per_step() const { return kStep / form_.width; }  // inputs

  void place_steps(bool each) {
    const int in_block = kBlock / per_step();
    const std::int64_t block = layer_.slots() * kBlock * form_.width;
    for (int k = 0; k < layer_.steps; k++)
      if (each || k % 4 == 0 || k / 4 == layer_.steps / 4)  // a step, or a whole quad's first
        offsets_.push_back(int(k / in_block * block) + k % in_block * kStep);
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
              (std::int64_t(i / per_step()) * strip.blocks * kBlock + o - first) * kStep +
              i % per_step() * form_.width;
          for (int p = 0; p < 16; p++) {
            const std::int16_t v = std::int16_t(u[p]);  // the low byte first
            std::memcpy(to + p * position * strip.blocks + at, &v, std::size_t(form_.width));
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
  WinogradForm form_;
  WinogradLayer layer_{};
  Outputs outputs_;
  const Kernels* kernels_ = &kPortable;
  std::unique_ptr<Tiling> tiling_;
  std::vector<std::int32_t> offsets_;
  std::vector<Strip> strips_;
  Aligned<std::int8_t> weights_;
  Aligned<std::int32_t> start_;
};

}  // namespace

std::unique_ptr<Op> make_winograd(ConvSpec s, WinogradForm form) {
  return std::make_unique<Winograd>(std::move(s), std::move(form));
}

}  // namespace qb
