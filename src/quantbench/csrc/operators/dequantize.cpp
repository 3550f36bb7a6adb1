// Codes as float32 numbers, where a network ends without a layer.
#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Dequantize : public Op {
 public:
  Dequantize(int x, int y, float scale) : Op({x}, y), scale_(scale) {}
  const char* kind() const override { return "dequantize"; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    for (std::int64_t n = run.first; n < run.first + run.images; n++)
      for (int b = 0; b < from.blocks(); b++)
        for (int r = 0; r < from.h; r++) {
          const std::uint8_t* x = from.view(n).data + b * from.plane + r * from.row;
          float* y = reinterpret_cast<float*>(to.view(n).data + b * to.plane + r * to.row);
          for (std::int64_t i = 0; i < std::int64_t(from.w) * kBlock; i++)
            y[i] = float(int(x[i]) - from.zero) * scale_;
        }
  }

 private:
  float scale_;
};

}  // namespace

int make_dequantize(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const float scale = args.single("scale");
  const Tensor in = graph.codes(x);
  require(finite({scale}), "a scale that is not positive");
  Tensor out = tensor({in.c, in.h, in.w}, 0, 0, 255);
  out.floats = true;
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<Dequantize>(x, y, scale));
}

}  // namespace qb
