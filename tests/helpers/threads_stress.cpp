// What qb::Threads promises, run by tests/integer/backends/test_native_threads.py, also under
// ThreadSanitizer: threads_stress ROUNDS.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/threads.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace {

constexpr double kMuch = 1e12;  // operations: shared, and worth waking everybody

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

// Plain, unsynchronized writes: every item once, by a thread of the team, and visible to the
// caller.
void every_item_once(int threads, int rounds) {
  qb::Threads team(threads, 0);
  for (int round = 0; round < rounds; round++) {
    const int count = round % 9;
    std::vector<int> done(9, 0), by(9, -1);
    const auto piece = [&](std::int64_t i, int thread) { done[i] += round + 1, by[i] = thread; };
    team.each(count, 1, kMuch, piece);  // `piece`, `done` and `by` are gone before the next round
    for (int i = 0; i < 9; i++) {
      require(done[i] == (i < count ? round + 1 : 0), "an item was left out, or done twice");
      require(i >= count || (0 <= by[i] && by[i] < threads),
              "an item was done by nobody of the team");
    }
  }
}

// Pieces that wait for one another, for a while: until every thread of the team was seen at work at
// the same time. One that was just falling asleep misses a call, so that several are made.
void all_threads_help(int threads, int rounds) {
  using Clock = std::chrono::steady_clock;
  qb::Threads team(threads, 0);
  const auto give_up = Clock::now() + std::chrono::minutes(2);
  for (int together = 0; together < rounds;) {
    require(Clock::now() < give_up, "a thread never helped");
    std::atomic<int> seen{0};
    team.each(threads, 1, kMuch, [&](std::int64_t, int thread) {
      seen |= 1 << thread;
      const auto enough = Clock::now() + std::chrono::milliseconds(20);
      while (seen != (1 << threads) - 1 && Clock::now() < enough) std::this_thread::yield();
    });
    together += seen == (1 << threads) - 1;
    if (together % 2)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // time to fall asleep
  }
}

// Below the threshold the caller does everything itself.
void small_work_stays(int threads, int rounds) {
  qb::Threads team(threads);
  int sum = 0;
  for (int round = 0; round < rounds; round++)
    team.each(8, qb::Threads::kWorth / 2, kMuch,
              [&](std::int64_t, int thread) { sum += thread == 0; });
  require(sum == 8 * rounds, "a small task was shared");
}

void exceptions_reach_the_caller(int threads, int rounds) {
  qb::Threads team(threads, 0);
  for (int round = 0; round < rounds; round++) {
    std::vector<int> done(16, 0);
    bool caught = false;
    try {
      team.each(16, 1, kMuch, [&](std::int64_t i, int) {
        done[i] = 1;
        if (i % 5 == round % 5) throw std::runtime_error("piece");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    require(caught, "an exception was lost");
    int count = 0;
    team.each(16, 1, kMuch, [&](std::int64_t i, int) { done[i] = 2; });
    for (int d : done) count += d == 2;
    require(count == 16, "a task after an exception is not whole");
  }
}

// Teams that end while their threads spin, sleep, or have just been offered work.
void teams_come_and_go(int threads, int rounds) {
  for (int round = 0; round < rounds; round++) {
    auto team = std::make_unique<qb::Threads>(threads, 0);
    std::vector<int> done(8, 0);
    if (round % 4) team->each(8, 1, kMuch, [&](std::int64_t i, int) { done[i] = 1; });
    if (round % 16 == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// On a single processor who wakes pushes the caller aside. That is found out once, not every time.
// Pieces give the processor up, so that whoever was woken takes some.
void a_crowded_caller_works_alone() {
#if defined(__linux__)
  constexpr int kRounds = 50;
  cpu_set_t all, one;
  require(sched_getaffinity(0, sizeof all, &all) == 0, "no list of processors");
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  require(sched_setaffinity(0, sizeof one, &one) == 0, "no processor of one's own");
  int helped = 0;
  {
    qb::Threads team(2);  // on the caller's processor, too
    for (int round = 0; round < kRounds; round++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // time to fall asleep
      std::atomic<bool> two{false};
      team.each(8, qb::Threads::kWorth * qb::Threads::kCrowded / kRounds, kMuch,
                [&](std::int64_t, int thread) {
                  if (thread) two = true;
                  std::this_thread::yield();
                });
      helped += two;
    }
  }
  sched_setaffinity(0, sizeof all, &all);
  require(helped < kRounds / 2, "a thread in the caller's place was woken again");
#endif
}

}  // namespace

int main(int, char** argv) {
  const int rounds = std::atoi(argv[1]);
  for (int threads : {2, 3, 4}) {
    every_item_once(threads, rounds);
    small_work_stays(threads, rounds / 10);
    exceptions_reach_the_caller(threads, rounds / 10);
    teams_come_and_go(threads, rounds / 20);
    all_threads_help(threads, rounds / 50);
  }
  a_crowded_caller_works_alone();
  std::puts("every promise was kept");
}
