// How images pass a network, decided once: which operators take them one by one, and when each
// tensor is in use.
//
// Early operators have large activations: images pass them one by one, and activations stay in the
// cache. Late ones have large weights: a group of images passes them together, and the weights are
// read once.
//
//   operators      0  1  2  ...  split-1  |  split  ...  count-1
//   image 0        -------------------->  |
//   image 1        -------------------->  |  ------------------>   all images of the group at once
//   image 2        -------------------->  |
#pragma once

#include <cstdint>
#include <vector>

#include "operators/graph.h"

namespace qb {

struct Options {
  int threads = 1;
  int images = 0;                  // of a group; 0: as many as are useful
  bool keep = false;               // every tensor stays readable after a run
  double worth = Threads::kWorth;  // operations from which a task is shared among threads
};

// When a tensor's memory is in use: operators that write it first and read it last, -1 being what
// loads the input and the number of operators what stores the output.
struct Life {
  int first, last;
  bool together;  // holds a group's images at once, else one after the other

  bool meets(const Life& other) const { return first <= other.last && other.first <= last; }
};

struct Plan {
  int split;                // as above; the number of operators if all take images one by one
  int group;                // images of a group
  bool whole;               // an image passes from input to output before the next one begins
  bool keep;                // no memory is used twice
  std::vector<Life> lives;  // by tensor; those inside of another share its life
  std::vector<std::vector<int>> halos;  // tensors whose halo each operator fills before it writes
  // Operations on an image: at i + 1 those from operator i on, first of all with the input's.
  std::vector<double> ahead;

  // Operations of operator i on an image, or of the input for -1.
  double work(int i) const { return ahead[i + 1] - ahead[i + 2]; }
  double ahead_of(int i) const { return ahead[i + 1]; }
  std::int64_t images_of(int tensor) const { return lives[tensor].together ? group : 1; }
  // Whether each thread that takes images of its own has memory of its own for a tensor.
  bool own(int tensor) const { return whole || !lives[tensor].together; }
};

// Of a graph that is laid out, and whose operators are prepared.
Plan make_plan(const Graph&, const Options&);

}  // namespace qb
