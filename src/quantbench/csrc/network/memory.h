// Where tensors lie: one arena, in which those that are never in use at the same time share their
// place.
#pragma once

#include <cstdint>
#include <vector>

#include "network/plan.h"
#include "operators/graph.h"

namespace qb {

struct Memory {
  std::int64_t arena_bytes = 0;
  // For each thread that takes images of its own: the graph's tensors, in memory of that thread.
  // Empty where threads share every image instead.
  std::vector<std::vector<Tensor>> views;
  std::uint8_t* scratch = nullptr;  // a piece for each thread
  std::int64_t scratch_size = 0;

  std::uint8_t* scratch_of(int thread) const { return scratch + thread * scratch_size; }
};

// Gives every tensor of the graph its address.
Memory allocate(Graph&, const Plan&, int threads, Pool&);

}  // namespace qb
