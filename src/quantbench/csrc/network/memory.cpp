#include "network/memory.h"

#include <algorithm>
#include <functional>

namespace qb {
namespace {

struct Arena {
  std::vector<std::int64_t> offsets;  // by tensor
  std::int64_t bytes = 64;
};

// Places the tensors that `wanted` names, the largest first, each at the lowest address that is
// free while it lives.
Arena arrange(const Graph& g, const Plan& plan, const std::function<bool(int)>& wanted) {
  const auto size = [&](int i) { return (g.tensors[i].bytes(plan.images_of(i)) + 63) / 64 * 64; };
  std::vector<int> order, placed;
  for (int i = 0; i < g.tensor_count(); i++)
    if (g.tensors[i].parent < 0 && wanted(i)) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return size(a) > size(b); });
  Arena arena;
  arena.offsets.assign(g.tensors.size(), 0);
  for (int i : order) {
    std::vector<int> meets;
    for (int j : placed)
      if (plan.keep || plan.lives[j].meets(plan.lives[i])) meets.push_back(j);
    std::sort(meets.begin(), meets.end(),
              [&](int a, int b) { return arena.offsets[a] < arena.offsets[b]; });
    std::int64_t at = 0;
    for (int j : meets) {
      if (at + size(i) <= arena.offsets[j]) break;
      at = std::max(at, arena.offsets[j] + size(j));
    }
    arena.offsets[i] = at;
    placed.push_back(i);
    arena.bytes = std::max(arena.bytes, at + size(i));
  }
  return arena;
}

void place_children(std::vector<Tensor>& tensors) {
  for (Tensor& t : tensors)
    if (t.parent >= 0) t.data = tensors[t.parent].data + t.parent_block * t.plane;
}

void place(Graph& g, const Plan& plan, Pool& pool, Memory& memory) {
  const Arena arena = arrange(g, plan, [](int) { return true; });
  memory.arena_bytes = arena.bytes;
  std::uint8_t* start = plan.keep ? nullptr : pool.take(arena.bytes);
  for (int i = 0; i < g.tensor_count(); i++) {
    Tensor& t = g.tensors[i];
    if (!plan.lives[i].together) t.image = 0;  // images one after the other, in the same place
    if (t.parent >= 0) continue;
    t.data =
        (plan.keep ? pool.take(t.bytes(plan.images_of(i))) : start + arena.offsets[i]) + t.origin();
  }
  place_children(g.tensors);
}

void place_views(const Graph& g, const Plan& plan, int threads, Pool& pool, Memory& memory) {
  const Arena arena = arrange(g, plan, [&](int i) { return plan.own(i); });
  memory.views.assign(std::size_t(threads), g.tensors);
  for (std::size_t thread = 1; thread < memory.views.size(); thread++) {
    std::vector<Tensor>& view = memory.views[thread];
    std::uint8_t* start = pool.take(arena.bytes);
    for (int i = 0; i < g.tensor_count(); i++)
      if (view[i].parent < 0 && plan.own(i))
        view[i].data = start + arena.offsets[i] + view[i].origin();
    place_children(view);
    memory.arena_bytes += arena.bytes;
  }
}

}  // namespace

Memory allocate(Graph& g, const Plan& plan, int threads, Pool& pool) {
  Memory memory;
  place(g, plan, pool, memory);
  const auto anywhere = [](const auto& op) { return op->any_thread(); };
  if (!plan.keep && threads > 1 && std::all_of(g.ops.begin(), g.ops.begin() + plan.split, anywhere))
    place_views(g, plan, threads, pool, memory);
  memory.scratch_size = 8 * std::int64_t(g.tensors[0].w) + 64;
  for (const auto& op : g.ops)
    memory.scratch_size = std::max(memory.scratch_size, (op->scratch() + 63) / 64 * 64);
  memory.scratch = pool.take(memory.scratch_size * threads);
  return memory;
}

}  // namespace qb
