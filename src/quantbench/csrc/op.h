// An operator of a network: what it asks of its tensors' layout, what it prepares once, and what it does every run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "tensor.h"
#include "threads.h"

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

constexpr double kPerCode = 16;  // products that take as long as a code through an operator without weights

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
  virtual double operations(const std::vector<Tensor>& t) const { return kPerCode * double(t[output].codes()); }
  virtual void run(const std::vector<Tensor>&, const Run&) const = 0;
  virtual bool any_thread() const { return true; }  // else on the one that calls the network
  virtual const char* kind() const = 0;

  std::vector<int> inputs;
  int output;
  std::vector<int> halos;  // tensors whose halo this operator's run fills first
};

// A convolution as the program gives it.
struct ConvSpec {
  int x, r, y;  // tensors; r < 0 without a residual
  int oc, ic, kh, kw;  // ic: per group
  int sy, sx, top, left, bottom, right, dy, dx, groups;
  std::vector<std::int8_t> weight;  // (oc, ic, kh, kw)
  std::vector<std::int16_t> weight_zero;
  std::vector<std::int32_t> bias;
  std::vector<float> m;
  std::vector<std::uint8_t> lo, hi;
  float ratio;  // of the residual

  int value(std::int64_t o, std::int64_t i, std::int64_t ky, std::int64_t kx) const {
    return weight[((o * ic + i) * kh + ky) * kw + kx] - weight_zero[o];
  }
  double operations(const std::vector<Tensor>& t) const { return double(t[y].codes()) * ic * kh * kw; }  // of an image
};

// The parts of a layer that depend on output channels alone, filled up to whole blocks.
struct Outputs {
  Aligned<std::int32_t> bias;  // zero points of the input folded in
  Aligned<float> m;
  Aligned<std::uint8_t> lo, hi;
  Requant requant;

  void fill(const ConvSpec&, const std::vector<Tensor>&, Pool&);
};

// Whether |float(acc) * m| and the residual's share stay below 2^30: what vector kernels may assume.
bool fits_int32(const ConvSpec&, const std::vector<Tensor>&);
// Largest |acc| over all outputs and inputs.
std::int64_t accumulator_bound(const ConvSpec&, const Tensor& x);
// Grows the halo of x so that windows of (kh, kw) reach `oh` x `ow` outputs without leaving it.
void widen_halo(Tensor& x, const ConvSpec&, int oh, int ow);

enum class Choice { never, model, always };  // of Winograd, where it is exact

// The operator that computes a convolution best on these kernels.
std::unique_ptr<Op> make_conv(ConvSpec, const std::vector<Tensor>&, const Kernels&, Choice winograd);
std::unique_ptr<Op> make_direct(ConvSpec);
std::unique_ptr<Op> make_winograd(ConvSpec);
// Whether Winograd is exact for this layer; and whether it is faster, by a model of both.
bool winograd_fits(const ConvSpec&, const std::vector<Tensor>&);
bool winograd_pays(const ConvSpec&, const std::vector<Tensor>&);
std::unique_ptr<Op> make_depthwise(ConvSpec);
std::unique_ptr<Op> make_linear(ConvSpec);

std::unique_ptr<Op> make_add(int a, int b, int y, AddTerms);
std::unique_ptr<Op> make_max_pool(int x, int y, PoolWindow);
std::unique_ptr<Op> make_avg_pool(int x, int y, PoolWindow, AvgTerms, std::vector<float> multipliers);
std::unique_ptr<Op> make_lrn(int x, int y, LrnTerms);
std::unique_ptr<Op> make_lut(int x, int y, std::vector<std::uint8_t> table);
std::unique_ptr<Op> make_concat(std::vector<int> x, int y, std::vector<float> ratios);
std::unique_ptr<Op> make_pad(int x, int y, int front, int top, int left, int sy, int sx);
std::unique_ptr<Op> make_flatten(int x, int y);
std::unique_ptr<Op> make_dequantize(int x, int y, float scale);

// What runs elsewhere: codes (images, c, h, w) of each input in, codes of the output out.
using Foreign = std::function<void(const std::vector<std::vector<std::uint8_t>>&, int images, std::uint8_t* y)>;
std::unique_ptr<Op> make_foreign(std::vector<int> x, int y, Foreign);

// Between the blocks of an image and its channels in order; `n` counts images from the tensor's first.
void to_dense(const Tensor&, std::int64_t n, std::uint8_t* dense);
void from_dense(const Tensor&, std::int64_t n, const std::uint8_t* dense);

}  // namespace qb
