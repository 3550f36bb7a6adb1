#include "operators/convolution/panels.h"

#include <algorithm>
#include <iterator>

namespace qb {
namespace {

// Whether three quads at a time lie on neighbouring outputs' inputs, a pixel apart, and there is
// nothing else.
bool by_columns(const std::vector<Step>& quads, const std::vector<Step>& singles,
                std::int64_t x_step) {
  if (!singles.empty() || quads.empty() || quads.size() % 12 || x_step != kBlock) return false;
  for (std::size_t k = 0; k < quads.size(); k++)
    if (quads[k].offset != quads[k / 12 * 12].offset + int(k % 12) * kStep) return false;
  return true;
}

}  // namespace

std::vector<Step> Panels::ordered(std::vector<Step> all, int first, int count) {
  std::vector<Step> quads, singles;
  for (std::size_t i = 0; i < all.size();) {
    bool quad = i + 4 <= all.size();
    for (int k = 1; quad && k < 4; k++) quad = all[i + k].offset == all[i].offset + k * kStep;
    if (quad) offsets_.push_back(all[i].offset);
    for (const std::size_t end = i + (quad ? 4 : 1); i < end; i++)
      (quad ? quads : singles).push_back(std::move(all[i]));
  }
  for (const Step& s : singles) offsets_.push_back(s.offset);
  panels_.push_back({first, count, int(quads.size() / 4), int(singles.size()), nullptr,
                     by_columns(quads, singles, x_step_)});
  std::move(singles.begin(), singles.end(), std::back_inserter(quads));
  return quads;
}

void Panels::pack(const ConvSpec& s, const Tensor& x, std::int64_t x_step, const Tiling& tiling,
                  Pool& pool) {
  x_step_ = x_step;
  std::vector<std::int8_t> packed;
  std::vector<std::size_t> weight_at, offset_at;
  for (const auto [first, count] : blocks_of(s)) {
    offset_at.push_back(offsets_.size());
    const int number = int(panels_.size());
    const std::vector<Step> steps = ordered(steps_of(s, x, first, count), first, count);
    for (const Strip& strip : tiling.strips(number, first, count, panels_.back().columns)) {
      weight_at.push_back(packed.size());
      strips_.push_back(strip);
      for (int k = 0; k < int(steps.size()); k++) {
        const auto from = steps[strip.step(k)].weight.begin() + (strip.block - first) * 64;
        packed.insert(packed.end(), from, from + strip.blocks * 64);
      }
    }
  }
  weights_.resize(std::int64_t(packed.size()), pool);
  std::copy(packed.begin(), packed.end(), weights_.data());
  for (std::size_t p = 0; p < panels_.size(); p++)
    panels_[p].offset = offsets_.data() + offset_at[p];
  for (std::size_t i = 0; i < strips_.size(); i++)
    strips_[i].weight = weights_.data() + weight_at[i];
}

void Panels::give(ConvLayer& layer) const {
  layer.panels = panels_.data(), layer.strips = strips_.data(),
  layer.strip_count = int(strips_.size());
}

}  // namespace qb
