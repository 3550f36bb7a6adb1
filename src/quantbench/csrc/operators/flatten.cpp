// Channels, rows and columns in a row.
#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Flatten : public Op {
 public:
  Flatten(int x, int y) : Op({x}, y) {}
  const char* kind() const override { return "flatten"; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    run.each(run.images, [&](std::int64_t n, int) {
      const View x = from.view(run.first + n), y = to.view(run.first + n);
      std::int64_t i = 0;
      for (int c = 0; c < from.c; c++)
        for (int r = 0; r < from.h; r++)
          for (int p = 0; p < from.w; p++, i++)
            y.data[i / kBlock * y.plane + i % kBlock] =
                x.data[c / kBlock * x.plane + r * x.row + p * std::int64_t(kBlock) + c % kBlock];
    });
  }
};

}  // namespace

int make_flatten(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  require(in.codes() <= kLargest, "a vector longer than 65536");
  const int y = graph.add_tensor(tensor({int(in.codes()), 1, 1}, in.zero, in.lo, in.hi));
  return graph.add(std::make_unique<Flatten>(x, y));
}

}  // namespace qb
