// Arrays that come from Python.
#pragma once

#include <pybind11/numpy.h>

namespace qb {

template <typename T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;  // no forcecast: a wrong dtype is an error

}  // namespace qb
