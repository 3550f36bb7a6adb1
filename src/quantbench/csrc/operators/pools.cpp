// Maxima and means over windows of the image.
#include <array>

#include "base/checks.h"
#include "operators/registry.h"
#include "operators/window.h"

namespace qb {
namespace {

class MaxPool : public Blockwise {
 public:
  MaxPool(int x, int y, PoolWindow window) : Blockwise({x}, y), window_(window) {}
  const char* kind() const override { return "max_pool"; }
  std::int64_t scratch() const override { return window_.w * std::int64_t(kBlock); }
  double operations(const std::vector<Tensor>& t) const override {
    return double(t[output].codes()) * window_.kh * window_.kw;
  }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b,
             std::uint8_t* scratch) const override {
    kernels_->max_pool(window_, block_of(t[inputs[0]], n, b), block_of(t[output], n, b), scratch);
  }

 private:
  PoolWindow window_;
};

class AvgPool : public Blockwise {
 public:
  AvgPool(int x, int y, PoolWindow window, AvgTerms terms, std::vector<float> multipliers)
      : Blockwise({x}, y), window_(window), terms_(terms), multipliers_(std::move(multipliers)) {
    terms_.multiplier = multipliers_.data();
  }
  const char* kind() const override { return "avg_pool"; }
  std::int64_t scratch() const override { return window_.w * std::int64_t(4 * kBlock); }
  double operations(const std::vector<Tensor>& t) const override {
    return double(t[output].codes()) * window_.kh * window_.kw;
  }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b,
             std::uint8_t* scratch) const override {
    kernels_->avg_pool(window_, terms_, block_of(t[inputs[0]], n, b), block_of(t[output], n, b),
                       scratch);
  }

 private:
  PoolWindow window_;
  AvgTerms terms_;
  std::vector<float> multipliers_;
};

PoolWindow window_of(const Arguments& args, const Tensor& x) {
  const Window w{
      args.integers<2>("kernel"), args.integers<2>("stride"), args.integers<4>("pads"), {1, 1}};
  check(w, x);
  return {x.h,         x.w,         w.outputs(0, x.h), w.outputs(1, x.w), w.kernel[0],
          w.kernel[1], w.stride[0], w.stride[1],       w.pads[0],         w.pads[1]};
}

}  // namespace

int make_max_pool(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  const PoolWindow w = window_of(args, in);
  const std::array<int, 4> pads = args.integers<4>("pads");
  for (int i = 0; i < 4; i++)
    require(pads[i] < (i % 2 ? w.kw : w.kh), "a window that lies in the padding alone");
  const int y = graph.add_tensor(tensor({in.c, w.oh, w.ow}, in.zero, in.lo, in.hi));
  return graph.add(std::make_unique<MaxPool>(x, y, w));
}

int make_avg_pool(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  const PoolWindow w = window_of(args, in);
  require(std::int64_t(w.kh) * w.kw < (std::int64_t(1) << 31) / 255,
          "a window that could overflow");
  std::vector<float> m = args.array<float>("multipliers", std::int64_t(w.oh) * w.ow);
  require(finite(m), "a multiplier that is not positive and finite");
  const Tensor out = args.output(in.c, w.oh, w.ow);
  const AvgTerms terms{in.zero, out.zero, out.lo, out.hi, nullptr};
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<AvgPool>(x, y, w, terms, std::move(m)));
}

}  // namespace qb
