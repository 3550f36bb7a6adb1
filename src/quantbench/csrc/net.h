// A network: tensors, operators in order, one arena planned for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "op.h"
#include "tensor.h"
#include "threads.h"

namespace qb {

struct Options {
  int threads = 1;
  int images = 0;     // that pass through the network's later part together; 0: as many as are useful
  bool keep = false;  // every tensor stays readable after a run
  double worth = Threads::kWorth;  // operations from which a task is shared among threads
};

class Net {
 public:
  // The network input, tensor 0; and the instruction set, of choose_kernels.
  Net(Tensor input, float scale, const std::string& isa, Choice winograd);

  // Returns the new tensor's number. Shapes and numbers are the caller's to check.
  int add_tensor(const Tensor&);
  void add_conv(ConvSpec);
  void add(std::unique_ptr<Op>);

  // Lays tensors out, packs weights and plans memory. Nothing can be added afterwards.
  void finish(const Options&);

  // n images (n, c, h, w), float32 or codes, to (n, c, h, w) of the last operator's output. `seconds`, if not null, is
  // increased by the time of the input (first) and of each operator. False when an image holds a NaN.
  bool run(const void* images, bool floats, std::int64_t n, std::uint8_t* out, double* seconds);

  const Tensor& tensor(int i) const { return tensors_[i]; }
  int tensor_count() const { return int(tensors_.size()); }
  int image_limit() const { return images_; }
  const std::vector<std::unique_ptr<Op>>& ops() const { return ops_; }
  const Tensor& output() const { return tensors_[ops_.back()->output]; }
  const Kernels& kernels() const { return *kernels_; }
  std::int64_t arena_bytes() const { return arena_bytes_; }
  bool keeps() const { return keep_; }

 private:
  void place_views();
  void lay_out();
  void split();
  void live();
  std::int64_t plan(std::vector<std::int64_t>& offsets, bool own) const;
  void allocate();
  void allocate_views();
  bool own(const Tensor& t) const { return split_ == int(ops_.size()) || !t.together; }  // memory for each thread
  bool load(const void* images, bool floats, const std::vector<Tensor>&, const Run&) const;
  std::int64_t images_of(const Tensor& t) const { return t.together ? images_ : 1; }
  int root(int i) const { return tensors_[i].parent >= 0 ? tensors_[i].parent : i; }

  std::vector<Tensor> tensors_;
  std::vector<std::vector<Tensor>> views_;  // for each thread that takes images of its own: tensors_ in its memory
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<double> ahead_;  // operations on an image, from the input (first) and from each operator on; and 0
  float scale_;
  int images_ = 0;  // that pass the operators from `split_` on together; those before it, one by one
  int split_ = 0;
  bool keep_ = false;
  const Kernels* kernels_;
  Choice winograd_;
  std::unique_ptr<Threads> threads_;
  Threads alone_{1};
  Pool pool_;  // holds everything below, and what operators prepare
  std::int64_t arena_bytes_ = 0;
  std::uint8_t* scratch_ = nullptr;
  std::int64_t scratch_size_ = 0;
  std::mutex busy_;
};

}  // namespace qb
