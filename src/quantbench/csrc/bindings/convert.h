// From Python's values to what operators read.
#pragma once

#include <pybind11/pybind11.h>

#include "operators/arguments.h"

namespace qb {

// Integers, floats, sequences of numbers, arrays in C order (borrowed), functions of arrays of codes.
// Throws std::invalid_argument for anything else.
Argument convert(const std::string& name, pybind11::handle value);

}  // namespace qb
