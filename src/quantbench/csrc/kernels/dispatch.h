// The instruction sets of this build, and which of them this machine has.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace qb {

// The set of this name, or the best of this machine for an empty one.
// Throws std::invalid_argument for an unknown name, or a set that this machine lacks.
const Kernels& choose_kernels(const std::string& name);

// Names of the sets that this machine has, the best first.
std::vector<std::string> instruction_sets();

}  // namespace qb
