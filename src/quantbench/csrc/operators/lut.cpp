// Any function of a code: a table of 256 entries.
#include <algorithm>

#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Lut : public Blockwise {
 public:
  Lut(int x, int y, std::vector<std::uint8_t> table)
      : Blockwise({x}, y), table_(std::move(table)) {}
  const char* kind() const override { return "lut"; }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t*) const override {
    const View x = t[inputs[0]].view(n), y = t[output].view(n);
    for (int r = 0; r < t[output].h; r++)
      kernels_->lut(x.data + b * x.plane + r * x.row, t[output].w * std::int64_t(kBlock),
                    table_.data(), y.data + b * y.plane + r * y.row);
  }

 private:
  std::vector<std::uint8_t> table_;
};

}  // namespace

int make_lut(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  std::vector<std::uint8_t> table = args.array<std::uint8_t>("table", 256);
  const auto ends = std::minmax_element(table.begin(), table.end());
  const int y =
      graph.add_tensor(tensor({in.c, in.h, in.w}, args.integer("zero"), *ends.first, *ends.second));
  return graph.add(std::make_unique<Lut>(x, y, std::move(table)));
}

}  // namespace qb
