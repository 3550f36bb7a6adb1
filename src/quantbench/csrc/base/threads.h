// A team of threads that help the one that calls. Work is offered, not assigned: whoever is awake
// takes the next piece, and the caller takes all that nobody else does, so that it waits for pieces
// that were begun, never for a thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace qb {

class Threads {
 public:
  // Operations (multiply-accumulates) from which a task is shared. Measured with AVX-512 VNNI on
  // two cores: handing pieces over takes half a microsecond; 3x3 layers of 0.3 M operations
  // take 3.4 us alone and 3.7 us shared by threads that are awake, of 0.6 M 5.1 and 4.7 us, of 2.4
  // M 14.8 and 13.5 us.
  static constexpr double kWorth = 5e5;
  // How many times as many must still lie ahead for a sleeping thread to be woken: 25 M take 0.1
  // ms, waking half of that.
  static constexpr double kWake = 50;
  // For how many times as many nobody is woken after one that woke in the caller's place: 500 M
  // take 2 ms or more, waking in vain 6 microseconds.
  static constexpr double kCrowded = 1000;

  // The caller is one of them: 1 starts none. From `worth` operations on, a task is offered to the
  // others.
  explicit Threads(int count, double worth = kWorth);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return int(workers_.size()) + 1; }
  // How many share a task of so many operations.
  int team(double work) const { return work < worth_ ? 1 : count(); }

  // f(item, thread) for items 0..count-1, in any order; returns when all are done, and rethrows
  // what one of them threw. `work`: operations of all items; `ahead`: of them and of the tasks that
  // follow at once.
  template <typename F>
  void each(std::int64_t count, double work, double ahead, const F& f) {
    if (count <= 1 || team(work) == 1) {
      for (std::int64_t i = 0; i < count; i++) f(i, 0);
      return;
    }
    share(
        count,
        [](const void* context, std::int64_t item, int thread) {
          (*static_cast<const F*>(context))(item, thread);
        },
        &f, work, ahead >= kWake * worth_);
  }

 private:
  using Function = void (*)(const void*, std::int64_t, int);

  void dismiss();
  void wake(double work);
  void sleep();
  bool in_the_way() const;
  void share(std::int64_t count, Function function, const void* context, double work, bool waking);
  void work(int thread);
  void take(int thread);

  const double worth_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable called_;
  std::uint64_t calls_ = 0;  // under the mutex
  std::atomic<int> asleep_{0};
  std::atomic<int> caller_{-1};       // the processor of the one that calls
  std::atomic<bool> crowded_{false};  // somebody woke there
  double alone_ = 0;                  // operations for which nobody is woken; the caller's
  std::atomic<bool> stop_{false};
  // The task on offer: written by the caller while no piece is open, read by those who hold a
  // piece.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  std::int64_t count_ = 0;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  alignas(64) std::atomic<std::int64_t> left_{0};  // pieces that nobody took
  alignas(64) std::atomic<std::int64_t> open_{0};  // pieces that are not done
};

}  // namespace qb
