// The product of two tensors; a size of 1 stands for as many as the other has.
#include <algorithm>

#include "base/checks.h"
#include "kernels/finish.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Mul : public Blockwise {
 public:
  Mul(int a, int b, int y, float ratio) : Blockwise({a, b}, y), ratio_(ratio) {}
  const char* kind() const override { return "mul"; }

 protected:
  // How an operand is walked: distances are 0 along what it has only one of.
  struct Walk {
    const std::uint8_t* data;
    std::int64_t row, pixel;
    int channel, zero;
  };

  static Walk walk(const Tensor& x, const Tensor& y, std::int64_t n, int b) {
    const bool each = x.c == y.c;  // else its only channel is the first of its only block
    const View v = block_of(x, n, each ? b : 0);
    return {v.data, x.h == y.h ? v.row : 0, x.w == y.w ? v.pixel : 0, each ? 1 : 0, x.zero};
  }

  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t*) const override {
    const Tensor& to = t[output];
    const Walk a = walk(t[inputs[0]], to, n, b), c = walk(t[inputs[1]], to, n, b);
    const View y = block_of(to, n, b);
    for (int r = 0; r < to.h; r++)
      for (int p = 0; p < to.w; p++) {
        const std::uint8_t *left = a.data + r * a.row + p * a.pixel,
                           *right = c.data + r * c.row + p * c.pixel;
        std::uint8_t* out = y.data + r * y.row + p * y.pixel;
        for (int i = 0; i < kBlock; i++) {
          const int product =
              (int(left[i * a.channel]) - a.zero) * (int(right[i * c.channel]) - c.zero);
          out[i] = quantize(float(product) * ratio_, to.zero, to.lo, to.hi);
        }
      }
  }

 private:
  float ratio_;
};

int wider(int a, int b) {
  require(a == b || a == 1 || b == 1, "a product of shapes that do not fit");
  return std::max(a, b);
}

}  // namespace

int make_mul(const Arguments& args, Graph& graph) {
  const auto [i, j] = args.inputs<2>();
  const Tensor a = graph.codes(i), b = graph.codes(j);
  const float ratio = args.single("ratio");
  require(finite({ratio}), "a ratio that is not positive");
  const int y = graph.add_tensor(args.output(wider(a.c, b.c), wider(a.h, b.h), wider(a.w, b.w)));
  return graph.add(std::make_unique<Mul>(i, j, y, ratio));
}

}  // namespace qb
