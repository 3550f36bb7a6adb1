// Linear layers: weights of few distinct values stay packed, 2 or 4 bits each.
#include <algorithm>
#include <set>

#include "operators/convolution/spec.h"

namespace qb {
namespace {

class Linear : public Op {
 public:
  explicit Linear(ConvSpec spec) : Op({spec.x}, spec.y), s_(std::move(spec)) {}

  const char* kind() const override {
    return layer_.bits == 8 ? "linear" : layer_.bits == 4 ? "linear4" : "linear2";
  }

  // Another operator may read the same pixel through a window, which puts a border around it.
  std::unique_ptr<Op> instead(const std::vector<Tensor>& t) override {
    return t[s_.x].vector() && t[s_.y].vector() ? nullptr : make_direct(std::move(s_));
  }

  void prepare(const std::vector<Tensor>& t, const Kernels& kernels, int, Pool& pool) override {
    outputs_.fill(s_, t, pool);
    kernels_ = &kernels;
    fold_zeros(pool);
    std::set<int> distinct(s_.weight.begin(), s_.weight.end());
    if (s_.ic % kBlock) distinct.insert(0);  // for the inputs that fill up the last block
    layer_.bits = distinct.size() <= 4 ? 2 : distinct.size() <= 16 ? 4 : 8;
    levels_.resize(16, pool);
    std::copy_n(distinct.begin(), layer_.bits == 8 ? 0 : distinct.size(), levels_.data());
    const int per_byte = 8 / layer_.bits;
    layer_.inputs = s_.ic;
    layer_.steps = ((s_.ic + kStep - 1) / kStep + per_byte - 1) / per_byte * per_byte;
    layer_.blocks = t[s_.y].blocks();
    pack(pool);
    layer_.weight = weights_.data(), layer_.levels = levels_.data(),
    layer_.bias = outputs_.bias.data();
    layer_.out = outputs_.requant;
    s_.weight = {};
  }

  std::int64_t weight_bytes() const override {
    return std::int64_t(s_.oc) * s_.ic * layer_.bits / 8;
  }
  std::int64_t scratch() const override { return layer_.bits == 8 ? 0 : linear_scratch(layer_); }
  double operations(const std::vector<Tensor>& t) const override { return s_.operations(t); }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &x = t[s_.x], &y = t[s_.y];
    run.each((layer_.blocks + 3) / 4, [&](std::int64_t group, int thread) {
      kernels_->linear(layer_, x.view(run.first).data, x.image, run.images, y.view(run.first).data,
                       y.image, int(group), run.scratch_of(thread));
    });
  }

 private:
  // Zero points of weights are subtracted from the weights where the differences are few and fit
  // int8, and from the sum otherwise, by the sum of the inputs.
  void fold_zeros(Pool& pool) {
    const auto& zeros = s_.weight_zero;
    if (std::all_of(zeros.begin(), zeros.end(), [](int z) { return z == 0; })) return;
    std::set<int> raw(s_.weight.begin(), s_.weight.end()), values;
    for (std::int64_t i = 0; i < std::int64_t(s_.weight.size()); i++)
      values.insert(s_.weight[i] - zeros[i / s_.ic]);
    const bool fit = *values.begin() >= -128 && *values.rbegin() <= 127;
    const auto bits = [](std::size_t n) { return n <= 4 ? 2 : n <= 16 ? 4 : 8; };
    if (fit && bits(values.size()) == bits(raw.size())) {
      for (std::int64_t i = 0; i < std::int64_t(s_.weight.size()); i++)
        s_.weight[i] = std::int8_t(s_.weight[i] - zeros[i / s_.ic]);
      return;
    }
    zeros_.resize((s_.oc + kBlock - 1) / kBlock * kBlock, pool);
    std::copy(zeros.begin(), zeros.end(), zeros_.data());
    layer_.weight_zero = zeros_.data();
  }

  int index(int o, int i) const {  // of the weight's level
    const int v = o < s_.oc && i < s_.ic ? s_.weight[std::int64_t(o) * s_.ic + i] : 0;
    if (layer_.bits == 8) return std::uint8_t(v);
    for (int k = 0; k < 1 << layer_.bits; k++)
      if (levels_[k] == v) return k;
    return 0;
  }

  void pack(Pool& pool) {
    const int per_byte = 8 / layer_.bits;
    weights_.resize(std::int64_t(layer_.blocks) * layer_.steps / per_byte * 64, pool);
    std::uint8_t* to = weights_.data();
    for (int group = 0; group < layer_.blocks; group += 4)
      for (int k = 0; k < layer_.steps; k += per_byte)
        for (int b = group; b < std::min(group + 4, layer_.blocks); b++, to += 64)
          for (int byte = 0; byte < 64; byte++)
            for (int part = 0; part < per_byte; part++)
              to[byte] |= index(b * kBlock + byte / kStep, (k + part) * kStep + byte % kStep)
                          << part * layer_.bits;
  }

  ConvSpec s_;
  LinearLayer layer_{};
  Outputs outputs_;
  const Kernels* kernels_ = &kPortable;
  Aligned<std::uint8_t> weights_;
  Aligned<std::int8_t> levels_;
  Aligned<std::int32_t> zeros_;
};

}  // namespace

std::unique_ptr<Op> make_linear(ConvSpec s) { return std::make_unique<Linear>(std::move(s)); }

}  // namespace qb
