// Operators by name.
#pragma once

#include <string>

#include "operators/arguments.h"
#include "operators/graph.h"

namespace qb {

// Adds an operator and its output to the graph; returns the output's number.
// Throws std::invalid_argument for an unknown operator, or arguments that it cannot take.
int add_operator(const std::string& name, const Arguments&, Graph&);

// Names of all operators.
std::vector<std::string> operator_names();

}  // namespace qb
