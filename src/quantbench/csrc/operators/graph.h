// Tensors and operators as a program gives them, before anything is decided about memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/checks.h"
#include "kernels/kernels.h"
#include "operators/op.h"
#include "operators/tensor.h"

namespace qb {

enum class Choice { never, model, always };  // of Winograd, where it is exact

struct Graph {
  std::vector<Tensor> tensors;           // the first is the network's input
  std::vector<std::unique_ptr<Op>> ops;  // in the order in which they run
  float scale;                           // of the input's codes
  const Kernels* kernels;
  Choice winograd;

  int tensor_count() const { return int(tensors.size()); }
  int op_count() const { return int(ops.size()); }
  const Tensor& output() const { return tensors[std::size_t(ops.back()->output)]; }
  // The tensor whose memory tensor i lies in.
  int root(int i) const { return tensors[i].parent >= 0 ? tensors[i].parent : i; }

  // A tensor of codes. Throws std::invalid_argument where there is none of this number.
  const Tensor& codes(int i) const {
    require(0 <= i && i < tensor_count() && !tensors[i].floats,
            "an input that is no tensor of codes");
    return tensors[i];
  }
  // Returns the new tensor's number.
  int add_tensor(const Tensor& t) {
    tensors.push_back(t);
    return tensor_count() - 1;
  }
  // Returns the number of the operator's output.
  int add(std::unique_ptr<Op> op) {
    ops.push_back(std::move(op));
    return ops.back()->output;
  }
};

}  // namespace qb
