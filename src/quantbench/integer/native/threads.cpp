#include "threads.h"

namespace qb {
namespace {

constexpr int kSpins = 4000;  // about 50 microseconds: longer than the gap between two operators of a network

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

Threads::Threads(int count) {
  for (int t = 1; t < count; t++) workers_.emplace_back([this, t] { work(t); });
}

Threads::~Threads() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    round_++;
  }
  wake_.notify_all();
  for (auto& w : workers_) w.join();
}

void Threads::share(std::int64_t count, Function function, const void* context) {
  count_ = count, function_ = function, context_ = context;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(int(workers_.size()), std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex_);  // a worker is either spinning, or sees the new round before it sleeps
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  take(0);
  for (int i = 0; busy_.load(std::memory_order_acquire) > 0; i++) i < kSpins ? pause() : std::this_thread::yield();
}

void Threads::take(int thread) {
  for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) function_(context_, i, thread);
}

void Threads::work(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < kSpins && round_.load(std::memory_order_acquire) == seen; i++) pause();
    if (round_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
    }
    seen = round_.load(std::memory_order_acquire);
    if (stop_) return;
    take(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace qb
