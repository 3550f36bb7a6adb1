// Where an image's bytes lie within each tensor: decided once all operators are known.
#pragma once

#include "operators/graph.h"

namespace qb {

// Decides which tensors are packed, which lie inside of others, how wide halos are, and distances.
// Throws std::invalid_argument for an activation of more than 2 GB an image.
void lay_out(Graph&);

}  // namespace qb
