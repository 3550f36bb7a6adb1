// A fixed team of threads. Between two calls of one network run they spin for some microseconds, then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace qb {

class Threads {
 public:
  explicit Threads(int count);  // the caller is one of them: 1 starts none
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return int(workers_.size()) + 1; }

  // f(item, thread) for items 0..count-1, in any order, on all threads; returns when all are done.
  template <typename F>
  void each(std::int64_t count, const F& f) {
    if (workers_.empty() || count <= 1) {
      for (std::int64_t i = 0; i < count; i++) f(i, 0);
      return;
    }
    share(count, [](const void* context, std::int64_t item, int thread) {
      (*static_cast<const F*>(context))(item, thread);
    }, &f);
  }

 private:
  using Function = void (*)(const void*, std::int64_t, int);

  void share(std::int64_t count, Function function, const void* context);
  void work(int thread);
  void take(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> round_{0};
  std::atomic<std::int64_t> next_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stop_{false};
  std::int64_t count_ = 0;
  Function function_ = nullptr;
  const void* context_ = nullptr;
};

}  // namespace qb
