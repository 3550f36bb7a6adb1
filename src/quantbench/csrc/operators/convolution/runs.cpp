#include "operators/convolution/runs.h"

#include <cstdlib>

#include "operators/convolution/pairing.h"

namespace qb {
namespace {

constexpr std::size_t kHalf = kBlock / 2 * kStep;  // weights

bool flipped(int halves, int half) { return halves >> half & 1; }

}  // namespace

void RunPacking::put(const std::vector<const Step*>& run, int halves, std::int32_t* bias) {
  for (std::size_t s = 0; s < run.size(); s++) {
    offsets_.push_back(run[s]->offset);
    for (std::size_t i = 0; i < 2 * kHalf; i++) {
      const int w = run[s]->weight[i];
      const bool flip = flipped(halves, int(2 * s + i / kHalf));
      packed_.push_back(std::int8_t(flip ? std::abs(w) : w));  // 128 as a byte without a sign
      // |w| (x - 128) and |w| (127 - x): modulo 2^32, as all sums on the way
      if (flip)
        bias[i / kStep] = std::int32_t(std::uint32_t(bias[i / kStep]) + (w < 0 ? 127 : 128) * w);
    }
  }
  for (std::size_t s = 0; s < run.size(); s++)
    for (std::size_t i = 0; i < 2 * kHalf; i++)
      if (flipped(halves, int(2 * s + i / kHalf)))
        packed_.push_back(std::int8_t(run[s]->weight[i] < 0 ? 0x7F : 0x80));
}

void RunPacking::append(const std::vector<Step>& all, int largest, std::int32_t* bias) {
  const Pairing found = pairing_of(all, largest);
  const auto step = [&](int k) { return &all[std::size_t(k)]; };
  Runs runs{};
  for (int i = 0; i < 2; i++) {
    runs.ones[i] = int(found.ones[i].size());
    for (const int k : found.ones[i]) put({step(k)}, i ? 3 : 0, bias);
  }
  for (std::size_t i = 0; i < kFlips; i++) {
    runs.twos[i] = int(found.twos[i].size());
    for (const auto [a, b] : found.twos[i]) put({step(a), step(b)}, kFlipped[i], bias);
  }
  runs.longs = int(found.longs.size());
  for (const std::vector<int>& run : found.longs) {
    lengths_.push_back(std::int32_t(run.size()));
    for (const int k : run) put({step(k)}, 0, bias);
  }
  runs_.push_back(runs);
}

void RunPacking::pack(const ConvSpec& s, const Tensor& x, std::int32_t* bias, Pool& pool) {
  std::vector<std::size_t> weight_at, offset_at, length_at;
  for (const auto [first, count] : blocks_of(s))
    for (int block = first; block < first + count; block++) {
      weight_at.push_back(packed_.size()), offset_at.push_back(offsets_.size());
      length_at.push_back(lengths_.size());
      append(steps_of(s, x, block, 1), x.largest_code(), bias + block * kBlock);
      strips_.push_back(
          {.panel = 0, .block = block, .blocks = 1, .weight = nullptr, .columns = false});
    }
  weights_.resize(std::int64_t(packed_.size()), pool);
  std::copy(packed_.begin(), packed_.end(), weights_.data());
  packed_ = {};
  for (std::size_t i = 0; i < runs_.size(); i++) {
    runs_[i].weight = weights_.data() + weight_at[i];
    runs_[i].offset = offsets_.data() + offset_at[i];
    runs_[i].length = lengths_.data() + length_at[i];
  }
}

void RunPacking::give(ConvLayer& layer) const {
  layer.runs = runs_.data();
  layer.strips = strips_.data(), layer.strip_count = int(strips_.size());
}

}  // namespace qb
