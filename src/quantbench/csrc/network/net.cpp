#include "network/net.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "network/input.h"
#include "network/layout.h"

namespace qb {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

// One call of the network.
struct Net::Pass {
  const char* images;
  bool floats;
  std::int64_t n;
  std::uint8_t* out;
  double* seconds;
  std::int64_t in_bytes, out_bytes;  // of an image
  std::atomic<bool> sane{true};      // no image held a NaN
  double start = now();

  // Ends the time of the input (0) or an operator (1..).
  void lap(int i) {
    if (!seconds) return;
    const double end = now();
    seconds[i] += end - start;
    start = end;
  }
};

// Images first..first + count - 1 of a pass, which go through the late operators together.
struct Net::Group {
  std::int64_t first, count;
};

Net::Net(Graph graph, const Options& options)
    : graph_(std::move(graph)), threads_(options.threads, options.worth) {
  require(!graph_.ops.empty(), "a network without operators");
  lay_out(graph_);
  for (auto& op : graph_.ops)
    if (auto other = op->instead(graph_.tensors)) op = std::move(other);
  for (const auto& op : graph_.ops)
    op->prepare(graph_.tensors, *graph_.kernels, options.threads, pool_);
  plan_ = make_plan(graph_, options);
  memory_ = allocate(graph_, plan_, options.threads, pool_);
}

bool Net::run(const void* images, bool floats, std::int64_t n, std::uint8_t* out, double* seconds) {
  const std::lock_guard<std::mutex> lock(busy_);
  Pass pass{static_cast<const char*>(images), floats, n, out, seconds};
  pass.in_bytes = input().codes() * (floats ? 4 : 1), pass.out_bytes = output().result_bytes();
  const std::int64_t size = plan_.whole ? n : plan_.group;
  for (std::int64_t done = 0; done < n && pass.sane; done += size) {
    const Group group{done, std::min(size, n - done)};
    early(pass, group);
    if (pass.sane) late(pass, group);
  }
  return pass.sane;
}

// Up to the split: an image after the other, shared by all threads, or an image for each thread.
void Net::early(Pass& pass, const Group& group) {
  const std::vector<std::vector<Tensor>>& views = memory_.views;
  if (!views.empty() && group.count >= threads_.count() && !pass.seconds) {
    const double work = (plan_.ahead_of(-1) - plan_.ahead_of(plan_.split)) * double(group.count);
    const double ahead = plan_.ahead_of(-1) * double(pass.n - group.first);
    threads_.each(group.count, work, ahead, [&](std::int64_t i, int thread) {
      const Run run{plan_.whole ? 0 : i, 1, alone_, memory_.scratch_of(thread),
                    memory_.scratch_size};
      from_input(pass, group.first + i, views[std::size_t(thread)], run);
    });
    return;
  }
  const std::int64_t step = plan_.keep ? group.count : 1;  // kept tensors hold all images anyway
  for (std::int64_t i = 0; i < group.count && pass.sane; i += step) {
    const Run run{plan_.whole ? 0 : i, int(step), threads_, memory_.scratch, memory_.scratch_size};
    from_input(pass, group.first + i, graph_.tensors, run);
  }
}

// From the split on: all images of the group together.
void Net::late(Pass& pass, const Group& group) {
  if (plan_.whole) return;
  Run run{0, int(group.count), threads_, memory_.scratch, memory_.scratch_size};
  operators(pass, plan_.split, graph_.op_count(), graph_.tensors, run,
            pass.n - group.first - group.count);
  for (std::int64_t i = 0; i < group.count; i++)
    to_dense(output(), i, pass.out + (group.first + i) * pass.out_bytes);
}

// run.images images from number `image` of the pass on, through the operators before the split.
void Net::from_input(Pass& pass, std::int64_t image, const std::vector<Tensor>& tensors, Run run) {
  const std::int64_t behind = pass.n - image - run.images;
  expect(run, -1, behind);
  if (!load(pass.images + image * pass.in_bytes, pass.floats, graph_.scale, *graph_.kernels,
            tensors[0], run))
    pass.sane = false;
  if (!pass.sane) return;
  pass.lap(0);
  operators(pass, 0, plan_.split, tensors, run, behind);
  if (plan_.whole)
    to_dense(tensors[std::size_t(graph_.ops.back()->output)], 0, pass.out + image * pass.out_bytes);
}

// `behind`: images that follow those of the run.
void Net::operators(Pass& pass, int from, int to, const std::vector<Tensor>& tensors, Run& run,
                    std::int64_t behind) {
  for (int i = from; i < to; i++) {
    expect(run, i, behind);
    for (int t : plan_.halos[std::size_t(i)])
      for (int image = 0; image < run.images; image++)
        fill_halo(tensors[std::size_t(t)], run.first + image);
    graph_.ops[std::size_t(i)]->run(tensors, run);
    pass.lap(i + 1);
  }
}

// How much work operator i is (the input for -1), and how much follows at once: by that threads are
// woken.
void Net::expect(Run& run, int i, std::int64_t behind) const {
  run.work = plan_.work(i) * run.images;
  run.ahead = plan_.ahead_of(i) * run.images + plan_.ahead_of(-1) * double(behind);
}

}  // namespace qb
