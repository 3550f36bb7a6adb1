#include "operators/convolution/pairing.h"

#include <algorithm>
#include <numeric>

namespace qb {
namespace {

constexpr int kPairs = 2 * kBlock;  // of a step: two for each output
constexpr std::size_t kOpen = 16;   // long runs that may still grow
// Sums of a longer run wait in memory: measured on a Zen 3 core, in ns a step of four pixels, runs
// of one take 2.8, of two 2.2, of three 2.7, of eight 2.2, of 144 1.9.
constexpr std::size_t kLong = 6;

// Instructions of a pixel: what a Zen 3 core's time is proportional to. A run of two saves a
// quarter of the multiplications, which is most of the time on cores that start only one of 256
// bits a cycle or less (Zen 1 and 2, Haswell): worth one instruction more.
constexpr int kTwo[kFlips] = {12, 13, 13, 14, 16}, kOne[2] = {7, 9}, kSaved = 1;
constexpr std::size_t kTried = 48;  // partners of a step

// Where the sums of a step's or a run's pairs lie, whatever the codes.
struct Bounds {
  std::array<int, kPairs> high{}, low{};

  void add(const Bounds& other) {
    for (int i = 0; i < kPairs; i++) high[i] += other.high[i], low[i] += other.low[i];
  }
};

// Whether sums of both stay in int16, in one half of the outputs.
bool fit(const Bounds& a, const Bounds& b, int half) {
  int beyond = 0;  // negative once one is
  for (int i = half * kBlock; i < (half + 1) * kBlock; i++)
    beyond |= (32767 - a.high[i] - b.high[i]) | (32768 + a.low[i] + b.low[i]);
  return beyond >= 0;
}
bool fit(const Bounds& a, const Bounds& b) { return fit(a, b, 0) && fit(a, b, 1); }

struct Reach {  // of a step, see runs.h
  Bounds plain, flipped;
  int largest = 0;  // of the plain bounds

  Reach(const std::vector<std::int8_t>& weight, int code) {
    for (std::size_t i = 0; i < kPairs; i++) {
      const int a = weight[2 * i], b = weight[2 * i + 1];
      const int positive = std::max(a, 0) + std::max(b, 0);
      const int negative = -std::min(a, 0) - std::min(b, 0);
      plain.high[i] = code * positive, plain.low[i] = -code * negative;
      flipped.high[i] = 127 * (positive + negative), flipped.low[i] = -128 * (positive + negative);
      largest = std::max({largest, plain.high[i], -plain.low[i]});
    }
  }
  int flips() const { return fit(plain, {}) ? 0 : 1; }  // on its own
};

// How two steps make a run, an index to kFlipped; -1 where they do not.
int flips_of(const Reach& a, const Reach& b) {
  bool plain[2], first[2];
  for (int half = 0; half < 2; half++) {
    plain[half] = fit(a.plain, b.plain, half);
    first[half] = plain[half] || fit(a.flipped, b.plain, half);
  }
  if (plain[0] && plain[1]) return 0;
  if (plain[0] || plain[1]) {
    const int half = plain[0] ? 1 : 0;
    if (first[half]) return 1 + half;
  }
  if (first[0] && first[1]) return 3;
  return fit(a.flipped, b.flipped) ? 4 : -1;
}

class Steps {
 public:
  Steps(const std::vector<Step>& all, int largest) {
    for (const Step& s : all) reach_.emplace_back(s.weight, largest);
  }

  // Plain steps in long runs, if these are long; the others are left to be paired.
  std::vector<int> long_runs(Pairing& to) const {
    std::vector<Growing> runs;
    std::vector<int> left;
    std::size_t plain = 0;
    for (int k = 0; k < int(reach_.size()); k++)
      if (at(k).flips())
        left.push_back(k);
      else
        grow(runs, k), plain++;
    const bool pays = plain >= kLong * runs.size();
    for (Growing& run : runs)
      if (pays && run.steps.size() > 2)
        to.longs.push_back(std::move(run.steps));
      else
        left.insert(left.end(), run.steps.begin(), run.steps.end());
    return left;
  }

  // Those with the largest weights choose first.
  void pair(std::vector<int> left, Pairing& to) const {
    std::stable_sort(left.begin(), left.end(),
                     [&](int a, int b) { return at(a).largest < at(b).largest; });
    while (!left.empty()) {
      const int k = left.back();
      left.pop_back();
      const Partner best = partner(k, left);
      if (best.place < 0) {
        to.ones[at(k).flips()].push_back(k);
        continue;
      }
      const int other = left[std::size_t(best.place)];
      left.erase(left.begin() + best.place);
      auto& runs = to.twos[std::size_t(best.flips)];
      runs.push_back(best.swapped ? std::array{other, k} : std::array{k, other});
    }
  }

 private:
  struct Growing {  // a run
    Bounds bounds;
    std::vector<int> steps;
  };
  struct Partner {
    int place = -1, flips = 0;  // in the list; kFlipped
    bool swapped = false;
  };

  const Reach& at(int k) const { return reach_[std::size_t(k)]; }

  // Every step goes to the first of the open runs that has room for it.
  void grow(std::vector<Growing>& runs, int k) const {
    const auto open = runs.size() > kOpen ? runs.end() - kOpen : runs.begin();
    const auto run = std::find_if(open, runs.end(),
                                  [&](const Growing& r) { return fit(r.bounds, at(k).plain); });
    if (run == runs.end())
      runs.push_back({at(k).plain, {k}});
    else
      run->bounds.add(at(k).plain), run->steps.push_back(k);
  }

  // The partner of which most is won; tried are some of all sizes.
  Partner partner(int k, const std::vector<int>& left) const {
    Partner best;
    int least = kSaved + 1;
    const std::size_t stride = std::max<std::size_t>(1, left.size() / kTried);
    for (std::size_t i = 0; i < left.size(); i += stride)
      for (const bool swapped : {false, true}) {
        const int a = swapped ? left[i] : k, b = swapped ? k : left[i];
        const int flips = flips_of(at(a), at(b));
        if (flips < 0) continue;
        const int more = kTwo[flips] - kOne[at(a).flips()] - kOne[at(b).flips()];
        if (more < least) least = more, best = {int(i), flips, swapped};
      }
    return best;
  }

  std::vector<Reach> reach_;
};

}  // namespace

Pairing pairing_of(const std::vector<Step>& all, int largest) {
  Pairing found;
  const Steps steps(all, largest);
  steps.pair(steps.long_runs(found), found);
  return found;
}

}  // namespace qb
