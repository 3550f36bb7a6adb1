// A network that is ready to run: its operators, prepared, and memory for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "base/pool.h"
#include "base/threads.h"
#include "network/memory.h"
#include "network/plan.h"
#include "operators/graph.h"

namespace qb {

class Net {
 public:
  // Lays tensors out, packs weights and plans memory, for a graph of one operator or more.
  Net(Graph, const Options&);

  // n images (n, c, h, w), float32 or codes, to (n, c, h, w) of the last operator's output.
  // `seconds`, if not null, is increased by the time of the input (first) and of each operator.
  // False when an image holds a NaN.
  bool run(const void* images, bool floats, std::int64_t n, std::uint8_t* out, double* seconds);

  const Graph& graph() const { return graph_; }
  const Tensor& input() const { return graph_.tensors[0]; }
  const Tensor& output() const { return graph_.output(); }
  int image_limit() const { return plan_.group; }
  std::int64_t arena_bytes() const { return memory_.arena_bytes; }
  bool keeps() const { return plan_.keep; }

 private:
  struct Pass;
  struct Group;
  void early(Pass&, const Group&);
  void late(Pass&, const Group&);
  void from_input(Pass&, std::int64_t image, const std::vector<Tensor>&, Run);
  void operators(Pass&, int from, int to, const std::vector<Tensor>&, Run&, std::int64_t behind);
  void expect(Run&, int i, std::int64_t behind) const;

  Pool pool_;  // holds what operators prepare, tensors and scratch
  Graph graph_;
  Threads threads_;
  Threads alone_{1};
  Plan plan_;
  Memory memory_;
  std::mutex busy_;
};

}  // namespace qb
