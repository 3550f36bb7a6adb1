// Bilinear interpolation in whole numbers, to codes or to float32 values.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/checks.h"
#include "kernels/finish.h"
#include "operators/registry.h"

namespace qb {
namespace {

// Along one direction: output i lies between inputs lower[i] and upper[i], which weigh
// whole - weight[i] and weight[i].
struct Taps {
  std::vector<std::int32_t> lower, upper, weight;
  int whole;
};

class Resize : public Op {
 public:
  Resize(int x, int y, Taps rows, Taps columns, float ratio)
      : Op({x}, y), rows_(std::move(rows)), columns_(std::move(columns)), ratio_(ratio) {}
  const char* kind() const override { return "resize"; }
  std::int64_t scratch() const override { return width_ * std::int64_t(4 * kBlock); }
  void prepare(const std::vector<Tensor>& t, const Kernels&, int, Pool&) override {
    width_ = t[inputs[0]].w;
  }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    const std::int64_t each = std::int64_t(to.blocks()) * to.h;  // rows of blocks of an image
    run.each(run.images * each, [&](std::int64_t item, int thread) {
      const std::int64_t n = run.first + item / each, b = item % each / to.h;
      auto* sums = reinterpret_cast<std::int32_t*>(run.scratch_of(thread));
      row(from, to, n, int(b), int(item % to.h), sums);
    });
  }

 private:
  void row(const Tensor& from, const Tensor& to, std::int64_t n, int b, int r,
           std::int32_t* sums) const {
    const View x = block_of(from, n, b), y = block_of(to, n, b);
    const std::uint8_t *above = x.data + rows_.lower[r] * x.row,
                       *below = x.data + rows_.upper[r] * x.row;
    const std::int32_t down = rows_.weight[r], up = rows_.whole - down;
    for (std::int64_t i = 0; i < std::int64_t(from.w) * kBlock; i++)
      sums[i] = up * (int(above[i]) - from.zero) + down * (int(below[i]) - from.zero);
    std::uint8_t* out = y.data + r * y.row;
    for (int p = 0; p < to.w; p++) {
      const std::int32_t *before = sums + columns_.lower[p] * std::int64_t(kBlock),
                         *behind = sums + columns_.upper[p] * std::int64_t(kBlock);
      const std::int32_t right = columns_.weight[p], left = columns_.whole - right;
      float values[kBlock];
      for (int i = 0; i < kBlock; i++)
        values[i] = float(left * before[i] + right * behind[i]) * ratio_;
      if (to.floats) {
        std::memcpy(out + p * sizeof values, values, sizeof values);
        continue;
      }
      for (int i = 0; i < kBlock; i++)
        out[p * kBlock + i] = quantize(values[i], to.zero, to.lo, to.hi);
    }
  }

  Taps rows_, columns_;
  float ratio_;
  std::int64_t width_ = 0;
};

Taps taps_of(const Arguments& args, const std::string& name, int size, int whole) {
  const Values<std::int32_t>& given = args.values<std::int32_t>(name + "_lower");
  require(1 <= given.size() && given.size() <= kLargest, "an output without rows or columns");
  const std::int64_t m = given.size();
  Taps found{args.array<std::int32_t>(name + "_lower", m),
             args.array<std::int32_t>(name + "_upper", m),
             args.array<std::int32_t>(name + "_weight", m), whole};
  for (std::int64_t i = 0; i < m; i++) {
    require(0 <= found.lower[i] && found.lower[i] < size && 0 <= found.upper[i] &&
                found.upper[i] < size,
            "an interpolation from outside of the image");
    require(0 <= found.weight[i] && found.weight[i] <= whole, "a weight that is no part");
  }
  return found;
}

}  // namespace

int make_resize(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  const auto [down, across] = args.integers<2>("wholes");
  const std::int64_t parts = std::int64_t(down) * across, most = std::int64_t(1) << 31;
  const int largest = std::max(std::abs(in.hi - in.zero), std::abs(in.lo - in.zero));
  require(1 <= down && 1 <= across && parts < most && parts * largest < most,
          "an interpolation that could overflow");
  Taps rows = taps_of(args, "row", in.h, down), columns = taps_of(args, "column", in.w, across);
  const float ratio = args.single("ratio");
  require(finite({ratio}), "a ratio that is not positive");
  const int h = int(rows.lower.size()), w = int(columns.lower.size());
  Tensor out = args.has("zero") ? args.output(in.c, h, w) : tensor({in.c, h, w}, 0, 0, 255);
  out.floats = !args.has("zero");
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<Resize>(x, y, std::move(rows), std::move(columns), ratio));
}

}  // namespace qb
