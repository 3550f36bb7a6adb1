// An operator that has no kernel: what the caller hands over computes it.
#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class ForeignOp : public Op {
 public:
  ForeignOp(std::vector<int> x, int y, Foreign function)
      : Op(std::move(x), y), function_(std::move(function)) {}
  const char* kind() const override { return "foreign"; }
  bool any_thread() const override { return false; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    std::vector<std::vector<std::uint8_t>> memory;
    std::vector<Codes> x;
    const auto dense = [&](const Tensor& tensor) {
      memory.emplace_back(tensor.codes() * run.images);
      return Codes{memory.back().data(), {run.images, tensor.c, tensor.h, tensor.w}};
    };
    for (int i : inputs) {
      x.push_back(dense(t[i]));
      for (int n = 0; n < run.images; n++)
        to_dense(t[i], run.first + n, x.back().data + n * t[i].codes());
    }
    const Codes y = dense(t[output]);
    function_(x, y);
    for (int n = 0; n < run.images; n++)
      from_dense(t[output], run.first + n, y.data + n * t[output].codes());
  }

 private:
  Foreign function_;
};

}  // namespace

int make_foreign(const Arguments& args, Graph& graph) {
  const std::vector<int>& x = args.all_inputs();
  require(!x.empty(), "an operator without inputs");
  for (int i : x) graph.codes(i);
  const int y = graph.add_tensor(tensor(args.integers<3>("shape"), args.integer("zero"), 0, 255));
  return graph.add(std::make_unique<ForeignOp>(x, y, args.foreign("function")));
}

}  // namespace qb
