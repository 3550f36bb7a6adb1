#include "network/plan.h"

#include <algorithm>

namespace qb {
namespace {

// Bytes of weights that stay in the second-level cache from image to image.
constexpr std::int64_t kCache = 1 << 19;
constexpr int kImages = 32;  // that share one reading of larger weights

// The split that moves the fewest bytes. Against a split at the end, operator i behind it saves the
// reading of its weights, and costs that of its activations, which no longer stay in the cache.
int split_of(const Graph& g) {
  const int count = g.op_count();
  std::int64_t weights = 0;
  for (const auto& op : g.ops) weights += op->weight_bytes();
  if (weights <= kCache) return count;
  int split = count;
  std::int64_t bytes = 0, fewest = 0;
  for (int i = count - 1; i >= 0; i--) {
    bytes += g.tensors[g.ops[i]->output].image - g.ops[i]->weight_bytes();
    for (int x : g.ops[i]->inputs) bytes += g.tensors[x].image;
    if (bytes < fewest) fewest = bytes, split = i;
  }
  return split;
}

// First and last uses, by the tensors that own memory; and who fills which halo: the first to write
// a tensor.
void follow_uses(const Graph& g, Plan& plan) {
  const int count = g.op_count();
  plan.lives.assign(g.tensors.size(), {count, -1, false});
  plan.halos.resize(g.ops.size());
  plan.lives[0].first = -1;
  for (int i = 0; i < count; i++) {
    const int y = g.root(g.ops[i]->output);
    Life& life = plan.lives[y];
    if (life.first == count && g.tensors[y].has_halo()) plan.halos[i].push_back(y);
    life.first = std::min(life.first, i), life.last = std::max(life.last, i);
    for (int x : g.ops[i]->inputs)
      plan.lives[g.root(x)].last = std::max(plan.lives[g.root(x)].last, i);
  }
  plan.lives[g.root(g.ops.back()->output)].last = count;
}

// What crosses the split holds all images of a group, and is in use from the first operator on: the
// next image passes while it waits.
void gather(const Graph& g, Plan& plan) {
  for (Life& life : plan.lives) {
    life.together = plan.keep || life.last >= plan.split;
    if (life.together && life.first < plan.split) life.first = -1;
  }
  for (int i = 0; i < g.tensor_count(); i++) plan.lives[i] = plan.lives[g.root(i)];
}

std::vector<double> operations_ahead(const Graph& g) {
  std::vector<double> ahead(g.ops.size() + 2, 0);
  for (std::size_t i = g.ops.size(); i-- > 0;)
    ahead[i + 1] = ahead[i + 2] + g.ops[i]->operations(g.tensors);
  ahead[0] = ahead[1] + kPerCode * double(g.tensors[0].codes());
  return ahead;
}

}  // namespace

Plan make_plan(const Graph& g, const Options& options) {
  Plan plan{};
  plan.split = split_of(g);
  plan.keep = options.keep;
  plan.whole = plan.split == g.op_count() && !plan.keep;
  plan.group = options.images > 0 ? options.images : plan.split == g.op_count() ? 1 : kImages;
  follow_uses(g, plan);
  gather(g, plan);
  plan.ahead = operations_ahead(g);
  return plan;
}

}  // namespace qb
