// Values in another order: a change of shape, of the order of directions, or both.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/checks.h"
#include "operators/registry.h"

namespace qb {
namespace {

constexpr std::int64_t kDirections = 16;  // as many as the definition allows

struct Direction {
  int size;
  std::int64_t step;  // in the input's values, channels in order
};

// f(source) for every value of the result in turn; the last direction is the fastest.
template <typename F>
void each(const std::vector<Direction>& directions, const F& f) {
  std::vector<int> at(directions.size(), 0);
  for (std::int64_t source = 0;;) {
    f(source);
    std::size_t d = directions.size();
    for (; d > 0; d--) {
      const auto [size, step] = directions[d - 1];
      source += step;
      if (++at[d - 1] < size) break;
      source -= step * size, at[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

class Rearrange : public Blockwise {
 public:
  Rearrange(int x, int y, std::vector<Direction> directions)
      : Blockwise({x}, y), directions_(std::move(directions)) {}
  const char* kind() const override { return "rearrange"; }

  void prepare(const std::vector<Tensor>& t, const Kernels&, int, Pool&) override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    const std::vector<std::int32_t> all = places(from, to);
    for (std::size_t p = 0; p < all.size(); p += kBlock) {
      const std::int32_t* at = all.data() + p;
      const int channel = int(p / kBlock / pixels(to)) * kBlock;
      const int count = std::min(kBlock, to.c - channel);
      bool block = at[0] % kBlock == 0;
      for (int i = 1; i < count; i++) block = block && at[i] == at[0] + i;
      at_.push_back(block ? at[0] : ~std::int32_t(lanes_.size()));
      if (!block) lanes_.insert(lanes_.end(), at, at + kBlock);
    }
  }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t image, int b,
             std::uint8_t*) const override {
    const Tensor& to = t[output];
    const std::uint8_t* in = t[inputs[0]].view(image).data;
    const View y = block_of(to, image, b);
    const std::int32_t* at = at_.data() + b * pixels(to);
    for (int r = 0; r < to.h; r++) {
      std::uint8_t* out = y.data + r * y.row;
      for (int p = 0; p < to.w; p++, at++, out += kBlock) {
        if (*at >= 0) {
          std::memcpy(out, in + *at, kBlock);
        } else {
          const std::int32_t* lane = lanes_.data() + ~*at;
          for (int i = 0; i < kBlock; i++) out[i] = in[lane[i]];
        }
      }
    }
  }

 private:
  static std::int64_t pixels(const Tensor& t) { return std::int64_t(t.h) * t.w; }

  // Bytes from an input's first code to that of every lane of the output: [block][pixel][16]. Lanes
  // that only fill up a block hold the input's first.
  std::vector<std::int32_t> places(const Tensor& from, const Tensor& to) const {
    std::vector<std::int32_t> all(std::size_t(to.blocks() * pixels(to) * kBlock));
    std::int64_t i = 0;
    each(directions_, [&](std::int64_t source) {
      const std::int64_t c = source / pixels(from), row = source / from.w % from.h;
      const std::int64_t channel = i / pixels(to), pixel = i++ % pixels(to);
      all[std::size_t((channel / kBlock * pixels(to) + pixel) * kBlock + channel % kBlock)] =
          std::int32_t(c / kBlock * from.plane + row * from.row + source % from.w * kBlock +
                       c % kBlock);
    });
    return all;
  }

  std::vector<Direction> directions_;
  // [block][pixel]: where a whole block of a pixel lies; or ~where its lanes' places begin.
  std::vector<std::int32_t> at_, lanes_;
};

std::vector<Direction> read_directions(const Arguments& args, const Tensor& in) {
  const Values<std::int32_t>& split = args.values<std::int32_t>("split");
  const Values<std::int32_t>& axes = args.values<std::int32_t>("axes");
  require(1 <= split.size() && split.size() <= kDirections, "no directions, or more than 16");
  require(axes.size() == split.size(), "axes of another number than directions");
  std::vector<Direction> given;
  std::int64_t step = 1;
  for (std::int64_t d = split.size() - 1; d >= 0; d--) {
    require(1 <= split.data[d] && step * split.data[d] <= in.codes(), "sizes that do not fit");
    given.push_back({split.data[d], step});
    step *= split.data[d];
  }
  require(step == in.codes(), "sizes that do not fit");
  std::reverse(given.begin(), given.end());
  std::vector<Direction> ordered;
  std::vector<bool> taken(given.size(), false);
  for (std::int64_t i = 0; i < axes.size(); i++) {
    const std::int32_t axis = axes.data[i];
    require(0 <= axis && axis < axes.size() && !taken[std::size_t(axis)],
            "axes that are no order of the directions");
    taken[std::size_t(axis)] = true;
    ordered.push_back(given[std::size_t(axis)]);
  }
  return ordered;
}

}  // namespace

int make_rearrange(const Arguments& args, Graph& graph) {
  const int x = args.input();
  const Tensor in = graph.codes(x);
  std::vector<Direction> directions = read_directions(args, in);
  const Tensor out = tensor(args.integers<3>("into"), in.zero, in.lo, in.hi);
  require(out.codes() == in.codes(), "a result of another size");
  const int y = graph.add_tensor(out);
  return graph.add(std::make_unique<Rearrange>(x, y, std::move(directions)));
}

}  // namespace qb
