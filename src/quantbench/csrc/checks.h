// What the bindings check with: nothing that comes from Python reaches a kernel unchecked.
#pragma once

#include <pybind11/numpy.h>

#include <stdexcept>

namespace qb {

template <typename T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;  // no forcecast: a wrong dtype is an error

constexpr int kLargest = 1 << 16;

inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace qb
