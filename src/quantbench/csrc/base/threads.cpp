#include "base/threads.h"

#include <utility>

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
void Threads::wake() {
  if (asleep_.load(std::memory_order_relaxed) == 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_++;
  }
  called_.notify_all();
}

void Threads::share(std::int64_t count, Function function, const void* context, bool waking) {
  count_ = count, function_ = function, context_ = context;
  open_.store(count, std::memory_order_relaxed);
  left_.store(count, std::memory_order_release);
  if (waking) wake();
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
    for (int i = 0; i < kSpins && idle(); i++) pause();
    if (!idle()) {
      take(thread);
      continue;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_add(1, std::memory_order_relaxed);
    called_.wait(lock, [&, seen = calls_] {
      return calls_ != seen || stop_.load(std::memory_order_relaxed);
    });
    asleep_.fetch_sub(1, std::memory_order_relaxed);
  }
}

}  // namespace qb
