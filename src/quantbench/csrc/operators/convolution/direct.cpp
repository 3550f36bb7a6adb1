// Convolutions of every geometry, as implicit GEMM.
#include <algorithm>

#include "operators/convolution/panels.h"
#include "operators/convolution/runs.h"
#include "operators/convolution/spec.h"
#include "operators/convolution/tiling.h"

namespace qb {
namespace {

constexpr int kChunk = 24;  // quads: 6 kB of weights a block
constexpr int kGroup = 8;   // tiles: 14 kB of sums

class Direct : public Op {
 public:
  explicit Direct(ConvSpec spec) : Op(spec.inputs(), spec.y), s_(std::move(spec)) {}

  const char* kind() const override { return "conv"; }
  bool reads_packed() const override {
    return s_.r != 0 && s_.groups == 1 && s_.dx == 1 && s_.sx <= 2;
  }

  void require(std::vector<Tensor>& t) const override {
    widen_halo(t[s_.x], s_, t[s_.y].h, t[s_.y].w);
  }

  void prepare(const std::vector<Tensor>& t, const Kernels& kernels, int threads,
               Pool& pool) override {
    const Tensor &x = t[s_.x], &y = t[s_.y];
    outputs_.fill(s_, t, pool);
    layer_.bias = outputs_.bias.data();
    layer_.out = outputs_.requant;
    // A 1x1 convolution of planes without gaps is one of a single long row.
    flat_ = s_.kh == 1 && s_.kw == 1 && s_.sy == 1 && s_.sx == 1 && x.h == y.h && x.w == y.w &&
            !x.packed && dense(x) && dense(y) && (s_.r < 0 || dense(t[s_.r]));
    layer_.oh = flat_ ? 1 : y.h, layer_.ow = flat_ ? y.h * y.w : y.w;
    layer_.x_step = s_.sx * x.pixel, layer_.y_step = s_.sy * x.row;
    kernels_ = kernels.conv_fits(layer_) ? &kernels : &kPortable;
    tiling_ = std::make_unique<Tiling>(layer_.ow, kernels_->model);
    tiling_->give(layer_);
    layer_.chunk = kChunk, layer_.group = kGroup;
    if (kernels_->model.runs) {
      runs_.pack(s_, x, outputs_.bias.data(), pool);
      runs_.give(layer_);
    } else {
      panels_.pack(s_, x, layer_.x_step, *tiling_, pool);
      panels_.give(layer_);
    }
    weights_first_ = panels_.bytes() + runs_.bytes() > (1 << 18);
    // Four pieces for each thread, so that all end at about the same time.
    const std::int64_t tiles = std::int64_t(layer_.oh) * layer_.tile_count[1];
    const std::int64_t wanted = std::min<std::int64_t>(tiles, 4 * threads / layer_.strip_count);
    chunks_ = threads == 1 ? 1 : std::max<std::int64_t>(1, wanted);
    s_.weight = {};
  }

  std::int64_t scratch() const override { return conv_scratch(layer_); }
  double operations(const std::vector<Tensor>& t) const override { return s_.operations(t); }
  std::int64_t weight_bytes() const override { return std::int64_t(s_.oc) * s_.ic * s_.kh * s_.kw; }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const std::int64_t strips = layer_.strip_count, chunks = run.team() == 1 ? 1 : chunks_;
    run.each(strips * chunks * run.images, [&](std::int64_t item, int thread) {
      const std::int64_t chunk = item % chunks, rest = item / chunks;
      // Large weights stay in the cache while all images pass; small ones are read again instead.
      const std::int64_t strip = weights_first_ ? rest / run.images : rest % strips;
      const std::int64_t n = run.first + (weights_first_ ? rest % run.images : rest / strips);
      ConvCall call{.x = t[s_.x].view(n),
                    .y = t[s_.y].view(n),
                    .r = s_.r < 0 ? View{} : t[s_.r].view(n),
                    .strip = int(strip),
                    .first = 0,
                    .last = 0,
                    .scratch = run.scratch_of(thread)};
      call.x.data -= s_.top * call.x.row + s_.left * call.x.pixel;
      const std::int64_t row = layer_.tile_count[layer_.strips[strip].cut()];
      call.first = cut(row, chunk, chunks), call.last = cut(row, chunk + 1, chunks);
      kernels_->conv(layer_, call);
    });
  }

 private:
  // The first tile of a chunk. Never the second one of a row: the first may overlap it (and no
  // other, or a cut without the second would be cheaper), and both then write the same outputs,
  // which two threads must not.
  std::int64_t cut(std::int64_t row, std::int64_t chunk, std::int64_t chunks) const {
    const std::int64_t at = row * layer_.oh * chunk / chunks;
    return at + (row > 1 && at % row == 1);
  }

  // Rows follow each other without gaps.
  static bool dense(const Tensor& t) { return !t.left && !t.right; }

  ConvSpec s_;
  ConvLayer layer_{};
  Outputs outputs_;
  const Kernels* kernels_ = &kPortable;
  std::unique_ptr<Tiling> tiling_;
  Panels panels_;
  RunPacking runs_;  // in the place of panels, for sets that ask for runs
  std::int64_t chunks_ = 1;
  bool flat_ = false, weights_first_ = false;
};

}  // namespace

std::unique_ptr<Op> make_direct(ConvSpec s) { return std::make_unique<Direct>(std::move(s)); }

}  // namespace qb
