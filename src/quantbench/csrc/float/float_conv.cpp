#include "float/float_conv.h"

#include <algorithm>
#include <memory>
#include <mutex>

#include "base/threads.h"
#include "float/kernels.h"

namespace qb {
namespace {

// Images whose gradients of a filter are added up first; more of them where there are very many,
// since each share's gradient is kept apart.
constexpr std::int64_t kShare = 8, kMostShares = 64;

std::int64_t gradient_shares(const FloatConv& s) {
  return std::clamp<std::int64_t>((s.images + kShare - 1) / kShare, 1, kMostShares);
}

// A team for a number of threads; never dismissed, as others may be at work when the process ends.
Threads& team(int count) {
  static std::mutex mutex;
  static auto& teams = *new std::vector<std::unique_ptr<Threads>>;
  const std::lock_guard<std::mutex> lock(mutex);
  while (int(teams.size()) < count) teams.push_back(nullptr);
  auto& found = teams[std::size_t(count - 1)];
  if (!found) found = std::make_unique<Threads>(count, 0);
  return *found;
}

std::mutex& one_at_a_time() {  // a team has one task
  static std::mutex mutex;
  return mutex;
}

// f(first image, last image, share) of `count` even shares of the images.
template <typename F>
void shared(const FloatConv& s, std::int64_t count, int threads, const F& f) {
  const auto one = [&](std::int64_t i, int) {
    f(s.images * i / count, s.images * (i + 1) / count, i);
  };
  threads = int(std::min<std::int64_t>(threads, count));
  if (threads == 1) {
    for (std::int64_t i = 0; i < count; i++) one(i, 0);
    return;
  }
  const std::lock_guard<std::mutex> lock(one_at_a_time());
  team(threads).each(count, 1, 1e9, one);
}

std::vector<float> zeros(std::int64_t size) { return std::vector<float>(std::size_t(size)); }

std::vector<const FloatKernels*> all() {
  std::vector<const FloatKernels*> here;
  for (const FloatKernels* set : {float_avx512(), float_avx2()})
    if (set) here.push_back(set);
  return here;
}

}  // namespace

std::vector<std::string> float_instruction_sets() {
  std::vector<std::string> names;
  for (const FloatKernels* set : all()) names.emplace_back(set->name);
  return names;
}

const FloatKernels* choose_float_kernels(const std::string& name) {
  for (const FloatKernels* set : all())
    if (name.empty() || name == set->name) return set;
  return nullptr;
}

void float_conv(const FloatKernels& kernels, const FloatConv& s, const float* x,
                const float* filter, const FloatTail& tail, float* y, int threads) {
  std::vector<float> packed = zeros(kernels.packed(s));
  kernels.pack(s, filter, packed.data());
  const std::int64_t count = std::clamp<std::int64_t>(s.images, 1, threads);
  shared(s, count, threads, [&](std::int64_t n, std::int64_t end, std::int64_t) {
    std::vector<float> copy = zeros(kernels.copied(s, s.c)), scratch = zeros(kernels.scratch(s));
    for (; n < end; n++) {
      kernels.copy(s, s.c, x + n * s.h * s.w * s.c, nullptr, copy.data());
      kernels.image(s, copy.data(), packed.data(), tail, n * s.h * s.w * s.k, y, scratch.data());
    }
  });
}

void float_conv_back(const FloatKernels& kernels, const FloatConv& s, const float* x,
                     const float* turned, const float* dy, const float* y, float* dx,
                     float* dfilter, int threads) {
  const std::int64_t size = dfilter ? kernels.sums(s) : 0, count = gradient_shares(s);
  std::vector<float> sums = zeros(size * count), packed = zeros(dx ? kernels.packed(s) : 0);
  const FloatConv back{s.images, s.h, s.w, s.k, s.c};
  if (dx) kernels.pack(back, turned, packed.data());
  shared(s, count, threads, [&](std::int64_t n, std::int64_t end, std::int64_t share) {
    std::vector<float> copy = zeros(kernels.copied(s, s.k));
    std::vector<float> scratch = zeros(std::max(kernels.scratch(s), kernels.scratch(back)));
    for (; n < end; n++) {
      const std::int64_t at = n * s.h * s.w;
      kernels.copy(s, s.k, dy + at * s.k, y ? y + at * s.k : nullptr, copy.data());
      if (dfilter)
        kernels.filter_gradient(s, x + at * s.c, copy.data(), sums.data() + size * share,
                                scratch.data());
      if (dx)
        kernels.image(back, copy.data(), packed.data(), {nullptr, nullptr, false}, at * s.c, dx,
                      scratch.data());
    }
  });
  for (std::int64_t share = 1; size && share < count; share++)
    for (std::int64_t i = 0; i < size; i++) sums[i] += sums[share * size + i];
  if (dfilter) kernels.unpack(s, sums.data(), dfilter);
}

}  // namespace qb
