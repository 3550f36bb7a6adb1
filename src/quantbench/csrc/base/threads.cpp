#include "base/threads.h"

#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif

namespace qb {
namespace {

// 50 microseconds: longer than the gap between two operators of a network.
constexpr int kSpins = 4000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The processor that runs this thread, or -1 where the system does not say.
inline int processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

}  // namespace

Threads::Threads(int count, double worth) : worth_(worth) {
  try {
    for (int t = 1; t < count; t++) workers_.emplace_back([this, t] { work(t); });
  } catch (...) {  // no more threads to be had
    dismiss();
    throw;
  }
}

Threads::~Threads() { dismiss(); }

void Threads::dismiss() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
  }
  called_.notify_all();
  for (auto& w : workers_) w.join();
}

// Once a task is on offer: on a single core those who wake push the caller aside, and would find
// nothing. A thread that falls asleep just now may miss the call: then it stays away, and nobody
// waits for it.
void Threads::wake(double work) {
  if (asleep_.load(std::memory_order_relaxed) == 0) return;
  if (crowded_.exchange(false, std::memory_order_relaxed)) alone_ = kCrowded * worth_;
  if ((alone_ -= work) > 0) return;
  caller_.store(processor(), std::memory_order_relaxed);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_++;
  }
  called_.notify_all();
}

void Threads::share(std::int64_t count, Function function, const void* context, double work,
                    bool waking) {
  count_ = count, function_ = function, context_ = context;
  open_.store(count, std::memory_order_relaxed);
  left_.store(count, std::memory_order_release);
  if (waking) wake(work);
  take(0);
  for (int i = 0; open_.load(std::memory_order_acquire) > 0; i++)
    i < kSpins ? pause() : std::this_thread::yield();
  if (failed_.load(std::memory_order_relaxed)) {
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
}

// Who lowers `left_` holds a piece of the task on offer, even if it read the counter when another
// task was: the caller cannot leave that task, nor offer the next one, before the piece is done.
void Threads::take(int thread) {
  for (std::int64_t left = left_.load(std::memory_order_relaxed); left > 0;) {
    if (!left_.compare_exchange_weak(left, left - 1, std::memory_order_acquire,
                                     std::memory_order_relaxed))
      continue;
    try {
      function_(context_, count_ - left, thread);
    } catch (...) {
      if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
    }
    open_.fetch_sub(1, std::memory_order_release);
    left = left_.load(std::memory_order_relaxed);
  }
}

void Threads::work(int thread) {
  const auto idle = [&] {
    return left_.load(std::memory_order_relaxed) == 0 && !stop_.load(std::memory_order_relaxed);
  };
  while (!stop_.load(std::memory_order_relaxed)) {
    const int spins = in_the_way() ? 0 : kSpins;
    for (int i = 0; i < spins && idle(); i++) pause();
    if (!idle()) {
      take(thread);
      continue;
    }
    sleep();
  }
}

// Until a call, or the end.
void Threads::sleep() {
  std::unique_lock<std::mutex> lock(mutex_);
  asleep_.fetch_add(1, std::memory_order_relaxed);
  called_.wait(
      lock, [&, seen = calls_] { return calls_ != seen || stop_.load(std::memory_order_relaxed); });
  asleep_.fetch_sub(1, std::memory_order_relaxed);
  if (in_the_way()) crowded_.store(true, std::memory_order_relaxed);
}

// Where other work keeps the other processors busy, the system may run who wakes on the caller's,
// in its place. That thread does what is on offer, but does not wait there for more, and says so:
// every layer would pay for it again.
bool Threads::in_the_way() const {
  const int here = processor();
  return here >= 0 && here == caller_.load(std::memory_order_relaxed);
}

}  // namespace qb
