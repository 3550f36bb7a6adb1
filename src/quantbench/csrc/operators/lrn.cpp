// Local response normalization, over neighbouring channels.
#include <cmath>

#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Lrn : public Op {
 public:
  Lrn(int x, int y, LrnTerms terms) : Op({x}, y), terms_(terms) {}
  const char* kind() const override { return "lrn"; }
  void prepare(const std::vector<Tensor>&, const Kernels& kernels, int, Pool&) override {
    kernels_ = &kernels;
  }
  std::int64_t scratch() const override { return lrn_scratch(terms_); }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &x = t[inputs[0]], &y = t[output];
    run.each(std::int64_t(run.images) * y.h, [&](std::int64_t item, int thread) {
      View from = x.view(run.first + item / y.h), to = y.view(run.first + item / y.h);
      from.data += item % y.h * from.row, to.data += item % y.h * to.row;
      kernels_->lrn(terms_, from, to, y.w, run.scratch_of(thread));
    });
  }

 private:
  LrnTerms terms_;
  const Kernels* kernels_ = &kPortable;
};

}  // namespace

int make_lrn(const Arguments& args, Graph& graph) {
  const int x = args.input(), size = args.integer("size");
  const double alpha = args.number("alpha"), k = args.number("k"), ratio = args.number("ratio");
  const Tensor in = graph.codes(x);
  require(1 <= size && size <= kLargest && alpha >= 0 && k > 0 && ratio > 0,
          "a normalization without meaning");
  require(std::isfinite(alpha) && std::isfinite(k) && std::isfinite(ratio),
          "a normalization without meaning");
  const Tensor out = args.output(in.c, in.h, in.w);
  const LrnTerms terms{.channels = in.c,
                       .before = size / 2,
                       .after = (size - 1) / 2,
                       .x_zero = in.zero,
                       .zero = out.zero,
                       .lo = out.lo,
                       .hi = out.hi,
                       .k = k,
                       .alpha = alpha,
                       .ratio = ratio};
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<Lrn>(x, y, terms));
}

}  // namespace qb
