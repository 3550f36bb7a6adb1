// Channels chosen and put in order: halves of a tensor, or groups shuffled.
#include <algorithm>
#include <array>

#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

class Select : public Blockwise {
 public:
  Select(int x, int y, std::vector<std::int32_t> channels)
      : Blockwise({x}, y), channels_(std::move(channels)) {}
  const char* kind() const override { return "select"; }

 protected:
  // Pixel by pixel: each lane of the block from the plane and lane in which its channel lies.
  void block(const std::vector<Tensor>& t, std::int64_t image, int b,
             std::uint8_t*) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    const View x = from.view(image), y = block_of(to, image, b);
    const int first = b * kBlock, lanes = std::min(kBlock, to.c - first);
    std::array<std::int64_t, kBlock> offset{};
    for (int i = 0; i < lanes; i++)
      offset[i] = channels_[first + i] / kBlock * x.plane + channels_[first + i] % kBlock;
    for (int r = 0; r < to.h; r++) {
      const std::uint8_t* in = x.data + r * x.row;
      std::uint8_t* out = y.data + r * y.row;
      for (int p = 0; p < to.w; p++, in += kBlock, out += kBlock)
        for (int i = 0; i < lanes; i++) out[i] = in[offset[i]];
    }
  }

 private:
  std::vector<std::int32_t> channels_;
};

}  // namespace

int make_select(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  const Values<std::int32_t>& given = args.values<std::int32_t>("channels");
  require(1 <= given.size() && given.size() <= kLargest, "no channels, or more than 65536");
  std::vector<std::int32_t> channels(given.data, given.data + given.size());
  for (std::int32_t c : channels) require(0 <= c && c < in.c, "a channel that is not there");
  const int y = graph.add_tensor(tensor({int(channels.size()), in.h, in.w}, in.zero, in.lo, in.hi));
  return graph.add(std::make_unique<Select>(x, y, std::move(channels)));
}

}  // namespace qb
