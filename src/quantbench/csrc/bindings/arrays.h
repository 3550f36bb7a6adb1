// Arrays that come from Python.
#pragma once

#include <pybind11/numpy.h>

namespace qb {

template <typename T>
// No forcecast: a wrong dtype is an error.
using Array = pybind11::array_t<T, pybind11::array::c_style>;

}  // namespace qb
