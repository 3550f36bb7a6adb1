// One filter a channel.
#include <algorithm>

#include "operators/convolution/spec.h"

namespace qb {
namespace {

class Depthwise : public Op {
 public:
  explicit Depthwise(ConvSpec spec) : Op({spec.x}, spec.y), s_(std::move(spec)) {}

  const char* kind() const override { return "depthwise"; }

  void require(std::vector<Tensor>& t) const override {
    widen_halo(t[s_.x], s_, t[s_.y].h, t[s_.y].w);
  }

  void prepare(const std::vector<Tensor>& t, const Kernels& kernels, int threads,
               Pool& pool) override {
    const Tensor &x = t[s_.x], &y = t[s_.y];
    outputs_.fill(s_, t, pool);
    kernels_ = &kernels;
    layer_.blocks = y.blocks(), layer_.oh = y.h, layer_.ow = y.w, layer_.kh = s_.kh,
    layer_.kw = s_.kw;
    layer_.groups = (s_.kh + 3) / 4;
    layer_.sx = s_.sx, layer_.dx = s_.dx, layer_.sy = s_.sy * x.row, layer_.dy = s_.dy * x.row;
    layer_.bias = outputs_.bias.data();
    layer_.out = outputs_.requant;
    pack(weights_, 0, pool);
    layer_.weight = weights_.data();
    if (s_.kh == 3 && s_.sy == 1 && s_.dy == 1) {
      pack(shifted_, 1, pool);
      layer_.shifted = shifted_.data();
    }
    chunks_ = threads == 1 ? 1 : std::max(1, std::min(y.h / 4, 4 * threads / layer_.blocks));
    s_.weight = {};
  }

  std::int64_t scratch() const override { return depthwise_scratch(layer_); }
  double operations(const std::vector<Tensor>& t) const override { return s_.operations(t); }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const std::int64_t chunks = run.team() == 1 ? 1 : chunks_;
    run.each(std::int64_t(run.images) * layer_.blocks * chunks, [&](std::int64_t item, int thread) {
      const std::int64_t chunk = item % chunks, block = item / chunks % layer_.blocks;
      const std::int64_t n = run.first + item / chunks / layer_.blocks;
      View x = t[s_.x].view(n);
      x.data -= s_.top * x.row + s_.left * x.pixel;
      kernels_->depthwise(layer_, x, t[s_.y].view(n), int(block), int(layer_.oh * chunk / chunks),
                          int(layer_.oh * (chunk + 1) / chunks), run.scratch_of(thread));
    });
  }

 private:
  // Filters `down` rows lower, four rows to a group.
  void pack(Aligned<std::int8_t>& to, int down, Pool& pool) const {
    to.resize(std::int64_t(layer_.blocks) * layer_.groups * s_.kw * 64, pool);
    for (int c = 0; c < s_.oc; c++)
      for (int ky = 0; ky < s_.kh; ky++)
        for (int kx = 0; kx < s_.kw; kx++) {
          const int row = ky + down;
          const std::int64_t group =
              (std::int64_t(c / kBlock) * layer_.groups + row / 4) * s_.kw + kx;
          to[group * 64 + c % kBlock * 4 + row % 4] = std::int8_t(s_.value(c, 0, ky, kx));
        }
  }

  ConvSpec s_;
  DepthwiseLayer layer_{};
  Outputs outputs_;
  const Kernels* kernels_ = &kPortable;
  Aligned<std::int8_t> weights_, shifted_;
  std::int64_t chunks_ = 1;
};

}  // namespace

std::unique_ptr<Op> make_depthwise(ConvSpec s) { return std::make_unique<Depthwise>(std::move(s)); }

}  // namespace qb
