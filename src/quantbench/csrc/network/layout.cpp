#include "network/layout.h"

#include <algorithm>

namespace qb {
namespace {

// Images of three channels stay as they come, three bytes a pixel, if all that read them can.
void pack_input(Graph& g) {
  g.tensors[0].packed = g.tensors[0].c == 3;
  for (const auto& op : g.ops)
    if (std::count(op->inputs.begin(), op->inputs.end(), 0) && !op->reads_packed())
      g.tensors[0].packed = false;
}

// Whether codes of x are codes of y as they are.
bool same_codes(const Tensor& x, const Tensor& y, float ratio) {
  return ratio == 1.0f && x.zero == y.zero && std::min(x.lo, x.zero) >= y.lo &&
         x.largest_code() <= y.hi;
}

// An input of a concatenation whose channels begin a block, and whose codes stay as they are, is
// written in place.
void place_views(Graph& g) {
  for (const auto& op : g.ops) {
    const std::vector<float>* ratios = op->concat_ratios();
    if (!ratios) continue;
    int channel = 0;
    for (std::size_t i = 0; i < op->inputs.size(); channel += g.tensors[op->inputs[i++]].c) {
      const int x = op->inputs[i];
      Tensor& t = g.tensors[x];
      const bool parent = std::any_of(g.tensors.begin(), g.tensors.end(),
                                      [&](const Tensor& o) { return o.parent == x; });
      const bool whole = t.c % kBlock == 0 || i + 1 == op->inputs.size();
      if (x == 0 || t.parent >= 0 || parent || channel % kBlock || !whole) continue;
      if (same_codes(t, g.tensors[op->output], (*ratios)[i]))
        t.parent = op->output, t.parent_block = channel / kBlock;
    }
  }
}

void widen(Tensor& a, const Tensor& b) {
  a.top = std::max(a.top, b.top), a.left = std::max(a.left, b.left);
  a.bottom = std::max(a.bottom, b.bottom), a.right = std::max(a.right, b.right);
}

// Halos of tensors and of what they lie in are one; then distances.
void measure(std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors)
    if (t.parent >= 0) widen(tensors[t.parent], t);
  for (Tensor& t : tensors) {
    if (t.parent >= 0) widen(t, tensors[t.parent]);
    t.lay_out();
    require(t.image < std::int64_t(1) << 31, "an activation of more than 2 GB an image");
  }
  for (Tensor& t : tensors)
    if (t.parent >= 0) t.plane = tensors[t.parent].plane, t.image = tensors[t.parent].image;
}

}  // namespace

void lay_out(Graph& g) {
  pack_input(g);
  place_views(g);
  for (const auto& op : g.ops) op->require(g.tensors);
  measure(g.tensors);
}

}  // namespace qb
