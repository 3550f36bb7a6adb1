// What module.cpp adds for float convolution.
#pragma once

#include <pybind11/pybind11.h>

namespace qb {

void bind_float_conv(pybind11::module_& m);

}  // namespace qb
