// The weights of a direct convolution as its kernels read them: panels of equal steps, cut into
// strips (layer.h).
#pragma once

#include <cstdint>
#include <vector>

#include "operators/convolution/spec.h"
#include "operators/convolution/steps.h"
#include "operators/convolution/tiling.h"

namespace qb {

class Panels {
 public:
  // x_step: bytes between the inputs of neighbouring outputs.
  void pack(const ConvSpec&, const Tensor& x, std::int64_t x_step, const Tiling&, Pool&);

  void give(ConvLayer&) const;
  std::int64_t bytes() const { return weights_.size(); }

 private:
  // Quads first; adds the panel and its offsets.
  std::vector<Step> ordered(std::vector<Step>, int first, int count);

  std::int64_t x_step_ = 0;
  Aligned<std::int8_t> weights_;
  std::vector<std::int32_t> offsets_;
  std::vector<Panel> panels_;
  std::vector<Strip> strips_;
};

}  // namespace qb
