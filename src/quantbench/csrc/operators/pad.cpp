// A border of zero points, around rows and columns that a stride has thinned out.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Pad : public Op {
 public:
  Pad(int x, int y, int front, int top, int left, int sy, int sx)
      : Op({x}, y), front_(front), top_(top), left_(left), sy_(sy), sx_(sx) {}
  const char* kind() const override { return "pad"; }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    const int h = (from.h + sy_ - 1) / sy_, w = (from.w + sx_ - 1) / sx_;
    run.each(std::int64_t(run.images) * to.blocks(), [&](std::int64_t item, int) {
      const std::int64_t n = run.first + item / to.blocks();
      const int block = int(item % to.blocks());
      const View x = from.view(n), y = to.view(n);
      for (int r = 0; r < to.h; r++)
        std::memset(y.data + block * y.plane + r * y.row, from.zero, std::size_t(to.w) * kBlock);
      const int first = std::max(0, block * kBlock - front_);
      const int last = std::min(from.c, (block + 1) * kBlock - front_);
      for (int r = 0; r < h; r++)
        for (int c = first; c < last;) {
          // Channels until a block of either tensor ends.
          const int to_block = kBlock - std::max(c % kBlock, (front_ + c) % kBlock);
          const int length = std::min(to_block, last - c);
          const std::uint8_t* in =
              x.data + c / kBlock * x.plane + std::int64_t(r) * sy_ * x.row + c % kBlock;
          std::uint8_t* out = y.data + block * y.plane + (top_ + r) * y.row +
                              left_ * std::int64_t(kBlock) + (front_ + c) % kBlock;
          for (int p = 0; p < w; p++)
            std::memcpy(out + p * std::int64_t(kBlock), in + std::int64_t(p) * sx_ * kBlock,
                        std::size_t(length));
          c += length;
        }
    });
  }

 private:
  int front_, top_, left_, sy_, sx_;
};

}  // namespace

int make_pad(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  // Front, back, top, left, bottom, right.
  const std::array<int, 6> pads = args.integers<6>("pads");
  const std::array<int, 2> stride = args.integers<2>("stride");
  for (int p : pads) require(0 <= p && p <= kLargest, "padding outside of 0..65536");
  for (int s : stride) require(1 <= s && s <= kLargest, "a stride outside of 1..65536");
  const int h = (in.h + stride[0] - 1) / stride[0], w = (in.w + stride[1] - 1) / stride[1];
  const Tensor out =
      tensor({pads[0] + in.c + pads[1], pads[2] + h + pads[4], pads[3] + w + pads[5]}, in.zero,
             in.lo, in.hi);
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<Pad>(x, y, pads[0], pads[2], pads[3], stride[0], stride[1]));
}

}  // namespace qb
