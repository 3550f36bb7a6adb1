// An operator of a network: what it asks of its tensors' layout, what it prepares once, and what it
// does every run.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/pool.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "operators/tensor.h"

namespace qb {

struct Run {  // over `images` images from number `first` on
  std::int64_t first;
  int images;
  Threads& threads;
  std::uint8_t* scratch;  // a piece for each thread
  std::int64_t scratch_size;
  double work = 0, ahead = 0;  // operations of this operator; and of all from it on
  std::uint8_t* scratch_of(int thread) const { return scratch + thread * scratch_size; }

  int team() const { return threads.team(work); }  // threads that share the operator's work

  // The operator's work as items 0..count-1: f(item, thread).
  template <typename F>
  void each(std::int64_t count, const F& f) const {
    threads.each(count, work, ahead, f);
  }
};

// Products that take as long as a code through an operator without weights.
constexpr double kPerCode = 16;

class Op {
 public:
  Op(std::vector<int> inputs, int output) : inputs(std::move(inputs)), output(output) {}
  virtual ~Op() = default;

  // Whether it can read images whose pixels are three bytes in a row.
  virtual bool reads_packed() const { return false; }
  // Of a concatenation: the ratio of each input's scale to the output's.
  virtual const std::vector<float>* concat_ratios() const { return nullptr; }
  // Widens halos, before tensors are laid out.
  virtual void require(std::vector<Tensor>&) const {}
  // What takes this operator's place, if it cannot work on tensors as they are laid out.
  virtual std::unique_ptr<Op> instead(const std::vector<Tensor>&) { return nullptr; }
  // Packs weights; distances of tensors are known, their addresses are not.
  virtual void prepare(const std::vector<Tensor>&, const Kernels&, int /*threads*/, Pool&) {}
  virtual std::int64_t scratch() const { return 0; }  // bytes for each thread
  virtual std::int64_t weight_bytes() const { return 0; }
  // Multiply-accumulates of an image, or what takes as long.
  virtual double operations(const std::vector<Tensor>& t) const {
    return kPerCode * double(t[output].codes());
  }
  virtual void run(const std::vector<Tensor>&, const Run&) const = 0;
  virtual bool any_thread() const { return true; }  // else on the one that calls the network
  virtual const char* kind() const = 0;

  std::vector<int> inputs;
  int output;
  std::vector<int> halos;  // tensors whose halo this operator's run fills first
};

// An operator that works on one block of one image at a time.
class Blockwise : public Op {
 public:
  using Op::Op;
  void prepare(const std::vector<Tensor>&, const Kernels& kernels, int, Pool&) override {
    kernels_ = &kernels;
  }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const int blocks = t[output].blocks();
    run.each(std::int64_t(run.images) * blocks, [&](std::int64_t item, int thread) {
      block(t, run.first + item / blocks, int(item % blocks), run.scratch_of(thread));
    });
  }

 protected:
  virtual void block(const std::vector<Tensor>&, std::int64_t image, int block,
                     std::uint8_t* scratch) const = 0;
  const Kernels* kernels_ = &kPortable;
};

inline View block_of(const Tensor& t, std::int64_t n, int b) {
  View v = t.view(n);
  v.data += b * v.plane;
  return v;
}

}  // namespace qb
