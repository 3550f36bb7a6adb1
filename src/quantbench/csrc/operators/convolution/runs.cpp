#include "operators/convolution/runs.h"

#include <algorithm>
#include <array>

namespace qb {
namespace {

constexpr int kPairs = 2 * kBlock;  // of a step: two for each output
constexpr int kOpen = 16;           // runs that may still grow
// Sums of a longer run wait in memory: measured on a Zen 3 core, in ns a step of four pixels, runs
// of one take 2.8, of two 2.2, of three 2.7, of eight 2.2, of 144 1.9.
constexpr int kLong = 6;

// Sums of the positive and of the negative weights of each pair.
struct Reach {
  std::array<int, kPairs> high{}, low{};

  explicit Reach(const std::vector<std::int8_t>& weight) {
    for (int i = 0; i < kPairs; i++) {
      const int a = weight[std::size_t(2 * i)], b = weight[std::size_t(2 * i + 1)];
      high[i] = std::max(a, 0) + std::max(b, 0), low[i] = std::min(a, 0) + std::min(b, 0);
    }
  }
  void add(const Reach& other) {
    for (int i = 0; i < kPairs; i++) high[i] += other.high[i], low[i] += other.low[i];
  }
};

bool holds(const Room& room, const Reach& a) {
  return *std::max_element(a.high.begin(), a.high.end()) <= room.high &&
         *std::min_element(a.low.begin(), a.low.end()) >= room.low;
}

bool holds(const Room& room, Reach a, const Reach& b) {
  a.add(b);
  return holds(room, a);
}

struct Growing {  // a run
  Reach reach;
  std::vector<int> steps;
};

// Every step goes to the first of the open runs that has room for it.
std::vector<Growing> fill(const std::vector<Step>& all, const std::vector<int>& steps,
                          const Room& room, std::size_t longest) {
  std::vector<Growing> runs;
  for (const int k : steps) {
    const Reach reach(all[std::size_t(k)].weight);
    const auto open = runs.size() > kOpen ? runs.end() - kOpen : runs.begin();
    const auto at = std::find_if(open, runs.end(), [&](const Growing& run) {
      return run.steps.size() < longest && holds(room, run.reach, reach);
    });
    if (at == runs.end())
      runs.push_back({reach, {k}});
    else
      at->reach.add(reach), at->steps.push_back(k);
  }
  return runs;
}

// Runs of one step first, then of two, then longer ones.
std::vector<Growing> runs_of(const std::vector<Step>& all, const std::vector<int>& steps,
                             const Room& room) {
  std::vector<Growing> runs = fill(all, steps, room, steps.size());
  if (steps.size() < kLong * runs.size()) runs = fill(all, steps, room, 2);
  std::stable_sort(runs.begin(), runs.end(), [](const Growing& a, const Growing& b) {
    return std::min<std::size_t>(a.steps.size(), 3) < std::min<std::size_t>(b.steps.size(), 3);
  });
  return runs;
}

// Weights of one step as words: of even inputs, then of odd ones.
std::vector<std::int8_t> words_of(const std::vector<std::int8_t>& weight) {
  std::vector<std::int8_t> to;
  for (int odd = 0; odd < 2; odd++)
    for (int i = 0; i < kPairs; i++) {
      const std::int8_t w = weight[std::size_t(2 * i + odd)];
      to.push_back(w), to.push_back(w < 0 ? -1 : 0);  // low byte, then the sign
    }
  return to;
}

// A step's weights with inputs paired otherwise.
std::vector<std::int8_t> paired(const std::vector<std::int8_t>& weight, const int* order) {
  std::vector<std::int8_t> other(weight.size());
  for (std::size_t i = 0; i < weight.size(); i++)
    other[i] = weight[i / kStep * kStep + std::size_t(order[i % kStep])];
  return other;
}

// How a step's inputs are to be paired so that no pair leaves int16: kPairings as they come, more
// where no pairing does.
int pairing_of(const std::vector<std::int8_t>& weight, const Room& room) {
  if (holds(room, Reach(weight))) return kPairings;
  for (int i = 0; i < kPairings; i++)
    if (holds(room, Reach(paired(weight, kPairing[i])))) return i;
  return kPairings + 1;
}

}  // namespace

void RunPacking::append(const Tensor& x, int block, const std::vector<Step>& all,
                        std::vector<std::int8_t>& packed) {
  const Room room(x.largest_code());
  std::array<std::vector<int>, kPairings + 2> by;  // steps by their pairing
  for (int k = 0; k < int(all.size()); k++)
    by[std::size_t(pairing_of(all[std::size_t(k)].weight, room))].push_back(k);
  const auto put = [&](int k, const std::vector<std::int8_t>& weight) {
    offsets_.push_back(all[std::size_t(k)].offset);
    packed.insert(packed.end(), weight.begin(), weight.end());
  };
  Runs found{.words = int(by[kPairings + 1].size())};
  for (const int k : by[kPairings + 1]) put(k, words_of(all[std::size_t(k)].weight));
  for (int i = 0; i < kPairings; i++) {
    for (const int k : by[std::size_t(i)]) put(k, paired(all[std::size_t(k)].weight, kPairing[i]));
    found.paired[i] = int(by[std::size_t(i)].size());
  }
  for (const Growing& run : runs_of(all, by[kPairings], room)) {
    const int length = int(run.steps.size());
    ++(length == 1 ? found.ones : length == 2 ? found.twos : found.longs);
    if (length > 2) lengths_.push_back(length);
    for (const int k : run.steps) put(k, all[std::size_t(k)].weight);
  }
  strips_.push_back({.panel = 0, .block = block, .blocks = 1, .weight = nullptr, .columns = false});
  runs_.push_back(found);
}

void RunPacking::pack(const ConvSpec& s, const Tensor& x, Pool& pool) {
  std::vector<std::int8_t> packed;
  std::vector<std::size_t> weight_at, offset_at, length_at;
  for (const auto [first, count] : blocks_of(s))
    for (int block = first; block < first + count; block++) {
      weight_at.push_back(packed.size()), offset_at.push_back(offsets_.size());
      length_at.push_back(lengths_.size());
      append(x, block, steps_of(s, x, block, 1), packed);
    }
  weights_.resize(std::int64_t(packed.size()), pool);
  std::copy(packed.begin(), packed.end(), weights_.data());
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
