// Operators without weights.
#include <algorithm>
#include <cstring>

#include "finish.h"
#include "op.h"

namespace qb {
namespace {

// An operator that works on one block of one image at a time.
class Blockwise : public Op {
 public:
  using Op::Op;
  void prepare(const std::vector<Tensor>&, const Kernels& kernels, int, Pool&) override { kernels_ = &kernels; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const int blocks = t[output].blocks();
    run.each(std::int64_t(run.images) * blocks, [&](std::int64_t item, int thread) {
      block(t, run.first + item / blocks, int(item % blocks), run.scratch_of(thread));
    });
  }

 protected:
  virtual void block(const std::vector<Tensor>&, std::int64_t image, int block, std::uint8_t* scratch) const = 0;
  const Kernels* kernels_ = &kPortable;
};

class Add : public Blockwise {
 public:
  Add(int a, int b, int y, AddTerms terms) : Blockwise({a, b}, y), terms_(terms) {}
  const char* kind() const override { return "add"; }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t*) const override {
    const View a = t[inputs[0]].view(n), c = t[inputs[1]].view(n), y = t[output].view(n);
    for (int r = 0; r < t[output].h; r++)
      kernels_->add(a.data + b * a.plane + r * a.row, c.data + b * c.plane + r * c.row, t[output].w * std::int64_t(kBlock),
                    terms_, y.data + b * y.plane + r * y.row);
  }

 private:
  AddTerms terms_;
};

class Lut : public Blockwise {
 public:
  Lut(int x, int y, std::vector<std::uint8_t> table) : Blockwise({x}, y), table_(std::move(table)) {}
  const char* kind() const override { return "lut"; }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t*) const override {
    const View x = t[inputs[0]].view(n), y = t[output].view(n);
    for (int r = 0; r < t[output].h; r++)
      kernels_->lut(x.data + b * x.plane + r * x.row, t[output].w * std::int64_t(kBlock), table_.data(),
                    y.data + b * y.plane + r * y.row);
  }

 private:
  std::vector<std::uint8_t> table_;
};

View block_of(const Tensor& t, std::int64_t n, int b) {
  View v = t.view(n);
  v.data += b * v.plane;
  return v;
}

class MaxPool : public Blockwise {
 public:
  MaxPool(int x, int y, PoolWindow window) : Blockwise({x}, y), window_(window) {}
  const char* kind() const override { return "max_pool"; }
  std::int64_t scratch() const override { return window_.w * std::int64_t(kBlock); }
  double operations(const std::vector<Tensor>& t) const override {
    return double(t[output].codes()) * window_.kh * window_.kw;
  }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t* scratch) const override {
    kernels_->max_pool(window_, block_of(t[inputs[0]], n, b), block_of(t[output], n, b), scratch);
  }

 private:
  PoolWindow window_;
};

class AvgPool : public Blockwise {
 public:
  AvgPool(int x, int y, PoolWindow window, AvgTerms terms, std::vector<float> multipliers)
      : Blockwise({x}, y), window_(window), terms_(terms), multipliers_(std::move(multipliers)) {
    terms_.multiplier = multipliers_.data();
  }
  const char* kind() const override { return "avg_pool"; }
  std::int64_t scratch() const override { return window_.w * std::int64_t(4 * kBlock); }
  double operations(const std::vector<Tensor>& t) const override {
    return double(t[output].codes()) * window_.kh * window_.kw;
  }

 protected:
  void block(const std::vector<Tensor>& t, std::int64_t n, int b, std::uint8_t* scratch) const override {
    kernels_->avg_pool(window_, terms_, block_of(t[inputs[0]], n, b), block_of(t[output], n, b), scratch);
  }

 private:
  PoolWindow window_;
  AvgTerms terms_;
  std::vector<float> multipliers_;
};

class Lrn : public Op {
 public:
  Lrn(int x, int y, LrnTerms terms) : Op({x}, y), terms_(terms) {}
  const char* kind() const override { return "lrn"; }
  void prepare(const std::vector<Tensor>&, const Kernels& kernels, int, Pool&) override { kernels_ = &kernels; }
  std::int64_t scratch() const override { return lrn_scratch(terms_); }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &x = t[inputs[0]], &y = t[output];
    run.each(std::int64_t(run.images) * y.h, [&](std::int64_t item, int thread) {
      View from = x.view(run.first + item / y.h), to = y.view(run.first + item / y.h);
      from.data += item % y.h * from.row, to.data += item % y.h * to.row;
      kernels_->lrn(terms_, from, to, y.w, run.scratch_of(thread));
    });
  }

 private:
  LrnTerms terms_;
  const Kernels* kernels_ = &kPortable;
};

// Each input through a table, into its blocks of the output. An input that already lies there needs nothing; one whose
// channels do not begin a block is copied channel by channel.
class Concat : public Op {
 public:
  Concat(std::vector<int> x, int y, std::vector<float> ratios) : Op(std::move(x), y), ratios_(std::move(ratios)) {}
  const char* kind() const override { return "concat"; }
  const std::vector<float>* concat_ratios() const override { return &ratios_; }

  void prepare(const std::vector<Tensor>& t, const Kernels& kernels, int, Pool&) override {
    kernels_ = &kernels;
    const Tensor& y = t[output];
    for (std::size_t i = 0; i < inputs.size(); i++) {
      std::vector<std::uint8_t> table(256);
      for (int q = 0; q < 256; q++)
        table[q] = quantize(float(q - t[inputs[i]].zero) * ratios_[i], y.zero, y.lo, y.hi);
      tables_.push_back(std::move(table));
    }
  }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    run.each(run.images, [&](std::int64_t n, int) {
      int channel = 0;
      for (std::size_t i = 0; i < inputs.size(); channel += t[inputs[i++]].c)
        if (t[inputs[i]].parent != output || t[inputs[i]].parent_block != channel / kBlock)
          copy(t[inputs[i]], t[output], run.first + n, channel, tables_[i].data());
    });
  }

 private:
  void copy(const Tensor& from, const Tensor& to, std::int64_t n, int channel, const std::uint8_t* table) const {
    const View x = from.view(n), y = to.view(n);
    for (int r = 0; r < to.h; r++) {
      if (channel % kBlock == 0 && (from.c % kBlock == 0 || channel + from.c == to.c)) {
        for (int b = 0; b < from.blocks(); b++)
          kernels_->lut(x.data + b * x.plane + r * x.row, to.w * std::int64_t(kBlock), table,
                        y.data + (channel / kBlock + b) * y.plane + r * y.row);
        continue;
      }
      for (int c = 0; c < from.c; c++) {
        const std::uint8_t* in = x.data + c / kBlock * x.plane + r * x.row + c % kBlock;
        std::uint8_t* out = y.data + (channel + c) / kBlock * y.plane + r * y.row + (channel + c) % kBlock;
        for (int p = 0; p < to.w; p++) out[p * std::int64_t(kBlock)] = table[in[p * std::int64_t(kBlock)]];
      }
    }
  }

  std::vector<float> ratios_;
  std::vector<std::vector<std::uint8_t>> tables_;
  const Kernels* kernels_ = &kPortable;
};

class Pad : public Op {
 public:
  Pad(int x, int y, int front, int top, int left, int sy, int sx)
      : Op({x}, y), front_(front), top_(top), left_(left), sy_(sy), sx_(sx) {}
  const char* kind() const override { return "pad"; }

  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    const int h = (from.h + sy_ - 1) / sy_, w = (from.w + sx_ - 1) / sx_;
    run.each(std::int64_t(run.images) * to.blocks(), [&](std::int64_t item, int) {
      const std::int64_t n = run.first + item / to.blocks();
      const int block = int(item % to.blocks());
      const View x = from.view(n), y = to.view(n);
      for (int r = 0; r < to.h; r++)
        std::memset(y.data + block * y.plane + r * y.row, from.zero, std::size_t(to.w) * kBlock);
      const int first = std::max(0, block * kBlock - front_), last = std::min(from.c, (block + 1) * kBlock - front_);
      for (int r = 0; r < h; r++)
        for (int c = first; c < last;) {
          const int to_block = kBlock - std::max(c % kBlock, (front_ + c) % kBlock), length = std::min(to_block, last - c);
          const std::uint8_t* in = x.data + c / kBlock * x.plane + std::int64_t(r) * sy_ * x.row + c % kBlock;
          std::uint8_t* out = y.data + block * y.plane + (top_ + r) * y.row + left_ * std::int64_t(kBlock) + (front_ + c) % kBlock;
          for (int p = 0; p < w; p++)
            std::memcpy(out + p * std::int64_t(kBlock), in + std::int64_t(p) * sx_ * kBlock, std::size_t(length));
          c += length;
        }
    });
  }

 private:
  int front_, top_, left_, sy_, sx_;
};

class Flatten : public Op {
 public:
  Flatten(int x, int y) : Op({x}, y) {}
  const char* kind() const override { return "flatten"; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    run.each(run.images, [&](std::int64_t n, int) {
      const View x = from.view(run.first + n), y = to.view(run.first + n);
      std::int64_t i = 0;
      for (int c = 0; c < from.c; c++)
        for (int r = 0; r < from.h; r++)
          for (int p = 0; p < from.w; p++, i++)
            y.data[i / kBlock * y.plane + i % kBlock] =
                x.data[c / kBlock * x.plane + r * x.row + p * std::int64_t(kBlock) + c % kBlock];
    });
  }
};

class Dequantize : public Op {
 public:
  Dequantize(int x, int y, float scale) : Op({x}, y), scale_(scale) {}
  const char* kind() const override { return "dequantize"; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    const Tensor &from = t[inputs[0]], &to = t[output];
    for (std::int64_t n = run.first; n < run.first + run.images; n++)
      for (int b = 0; b < from.blocks(); b++)
        for (int r = 0; r < from.h; r++) {
          const std::uint8_t* x = from.view(n).data + b * from.plane + r * from.row;
          float* y = reinterpret_cast<float*>(to.view(n).data + b * to.plane + r * to.row);
          for (std::int64_t i = 0; i < std::int64_t(from.w) * kBlock; i++) y[i] = float(int(x[i]) - from.zero) * scale_;
        }
  }

 private:
  float scale_;
};

class ForeignOp : public Op {
 public:
  ForeignOp(std::vector<int> x, int y, Foreign f) : Op(std::move(x), y), f_(std::move(f)) {}
  const char* kind() const override { return "foreign"; }
  bool any_thread() const override { return false; }
  void run(const std::vector<Tensor>& t, const Run& run) const override {
    std::vector<std::vector<std::uint8_t>> dense;
    for (int i : inputs) {
      const std::int64_t size = std::int64_t(t[i].c) * t[i].h * t[i].w;
      dense.emplace_back(size * run.images);
      for (int n = 0; n < run.images; n++) to_dense(t[i], run.first + n, dense.back().data() + n * size);
    }
    const std::int64_t size = std::int64_t(t[output].c) * t[output].h * t[output].w;
    std::vector<std::uint8_t> y(size * run.images);
    f_(dense, run.images, y.data());
    for (int n = 0; n < run.images; n++) from_dense(t[output], run.first + n, y.data() + n * size);
  }

 private:
  Foreign f_;
};

}  // namespace

void to_dense(const Tensor& t, std::int64_t n, std::uint8_t* dense) {
  const View v = t.view(n);
  const int size = t.floats ? 4 : 1;
  if (t.vector()) {
    std::memcpy(dense, v.data, std::size_t(t.c) * size);
    return;
  }
  for (int c = 0; c < t.c; c++)
    for (int r = 0; r < t.h; r++) {
      const std::uint8_t* from =
          v.data + r * v.row + (t.packed ? c : c / kBlock * v.plane + c % kBlock * std::int64_t(size));
      for (int p = 0; p < t.w; p++, dense += size) std::memcpy(dense, from + p * v.pixel, size);
    }
}

void from_dense(const Tensor& t, std::int64_t n, const std::uint8_t* dense) {
  const View v = t.view(n);
  for (int c = 0; c < t.c; c++)
    for (int r = 0; r < t.h; r++) {
      std::uint8_t* to = v.data + r * v.row + (t.packed ? c : c / kBlock * v.plane + c % kBlock);
      for (int p = 0; p < t.w; p++) to[p * v.pixel] = *dense++;
    }
}

std::unique_ptr<Op> make_foreign(std::vector<int> x, int y, Foreign f) {
  return std::make_unique<ForeignOp>(std::move(x), y, std::move(f));
}
std::unique_ptr<Op> make_add(int a, int b, int y, AddTerms terms) { return std::make_unique<Add>(a, b, y, terms); }
std::unique_ptr<Op> make_max_pool(int x, int y, PoolWindow w) { return std::make_unique<MaxPool>(x, y, w); }
std::unique_ptr<Op> make_avg_pool(int x, int y, PoolWindow w, AvgTerms terms, std::vector<float> multipliers) {
  return std::make_unique<AvgPool>(x, y, w, terms, std::move(multipliers));
}
std::unique_ptr<Op> make_lrn(int x, int y, LrnTerms terms) { return std::make_unique<Lrn>(x, y, terms); }
std::unique_ptr<Op> make_lut(int x, int y, std::vector<std::uint8_t> table) {
  return std::make_unique<Lut>(x, y, std::move(table));
}
std::unique_ptr<Op> make_concat(std::vector<int> x, int y, std::vector<float> ratios) {
  return std::make_unique<Concat>(std::move(x), y, std::move(ratios));
}
std::unique_ptr<Op> make_pad(int x, int y, int front, int top, int left, int sy, int sx) {
  return std::make_unique<Pad>(x, y, front, top, left, sy, sx);
}
std::unique_ptr<Op> make_flatten(int x, int y) { return std::make_unique<Flatten>(x, y); }
std::unique_ptr<Op> make_dequantize(int x, int y, float scale) { return std::make_unique<Dequantize>(x, y, scale); }

}  // namespace qb
