// The parts of the extension module, put together in module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace qb {

void bind_builder(pybind11::module_&);
void bind_float_conv(pybind11::module_&);

}  // namespace qb
