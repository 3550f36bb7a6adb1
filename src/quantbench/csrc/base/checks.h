// What is refused, and how: nothing that comes from outside reaches a kernel unchecked.
#pragma once

#include <stdexcept>

namespace qb {

constexpr int kLargest = 1 << 16;  // channels, sizes, strides and paddings

inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace qb
