// The sum of two tensors of one shape, each with a scale of its own.
#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Add : public Blockwise {
 public:
  Add(int a, int b, int y, AddTerms terms) : Blockwise({a, b}, y), terms_(terms) {}
  const char* kind() const override { return "add"; }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t*) const override {
    const View a = t[inputs[0]].view(n), c = t[inputs[1]].view(n), y = t[output].view(n);
    for (int r = 0; r < t[output].h; r++)
      kernels_->add(a.data + b * a.plane + r * a.row, c.data + b * c.plane + r * c.row,
                    t[output].w * std::int64_t(kBlock), terms_, y.data + b * y.plane + r * y.row);
  }

 private:
  AddTerms terms_;
};

}  // namespace

int make_add(const Arguments& args, Graph& graph) {
  const auto [i, j] = args.inputs<2>();
  const Tensor a = graph.codes(i), b = graph.codes(j);
  const float a_ratio = args.single("a_ratio"), b_ratio = args.single("b_ratio");
  require(a.same_shape(b) && finite({a_ratio, b_ratio}),
          "a sum of different shapes, or a ratio that is not positive");
  const Tensor out = args.output(a.c, a.h, a.w);
  const AddTerms terms{a.zero, b.zero, a_ratio, b_ratio, out.zero, out.lo, out.hi};
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<Add>(i, j, y, terms));
}

}  // namespace qb
