// Channels of several tensors in a row.
#include "base/checks.h"
#include "kernels/finish.h"
#include "operators/registry.h"

namespace qb {
namespace {

// Each input through a table, into its blocks of the output. An input that already lies there needs
// nothing; one whose channels do not begin a block is copied channel by channel.
class Concat : public Op {
 public:
  Concat(std::vector<int> x, int y, std::vector<float> ratios)
      : Op(std::move(x), y), ratios_(std::move(ratios)) {}
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
  void copy(const Tensor& from, const Tensor& to, std::int64_t n, int channel,
            const std::uint8_t* table) const {
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
        std::uint8_t* out =
            y.data + (channel + c) / kBlock * y.plane + r * y.row + (channel + c) % kBlock;
        for (int p = 0; p < to.w; p++)
          out[p * std::int64_t(kBlock)] = table[in[p * std::int64_t(kBlock)]];
      }
    }
  }

  std::vector<float> ratios_;
  std::vector<std::vector<std::uint8_t>> tables_;
  const Kernels* kernels_ = &kPortable;
};

}  // namespace

int make_concat(const Arguments& args, Graph& graph) {
  const std::vector<int>& x = args.all_inputs();
  std::vector<float> ratios = args.singles("ratios");
  require(!x.empty() && ratios.size() == x.size() && finite(ratios),
          "a concatenation without inputs or ratios");
  const Tensor first = graph.codes(x[0]);
  std::int64_t channels = 0;
  for (int i : x) {
    const Tensor& t = graph.codes(i);
    require(t.h == first.h && t.w == first.w, "a concatenation of different sizes");
    channels += t.c;
  }
  require(channels <= kLargest, "too many channels");
  const int y = graph.add_tensor(args.output(int(channels), first.h, first.w));
  return graph.add(std::make_unique<Concat>(x, y, std::move(ratios)));
}

}  // namespace qb
