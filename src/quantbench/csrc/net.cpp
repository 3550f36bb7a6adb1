#include "net.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace qb {
namespace {

constexpr std::int64_t kCache = 1 << 19;  // bytes of weights that stay in the second-level cache from image to image
constexpr int kImages = 32;               // that share one reading of larger weights

// Whether codes of x are codes of y as they are.
bool same_codes(const Tensor& x, const Tensor& y, float ratio) {
  return ratio == 1.0f && x.zero == y.zero && std::min(x.lo, x.zero) >= y.lo && x.largest_code() <= y.hi;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void fill_halo(const Tensor& t, std::int64_t n) {
  const std::int64_t planes = t.packed ? 1 : t.blocks(), width = t.w * t.pixel, left = t.left * t.pixel;
  const std::int64_t right = t.right * t.pixel;
  for (std::int64_t b = 0; b < planes; b++) {
    std::uint8_t* start = t.data - t.origin() + n * t.image + b * t.plane;
    // From the top to the first row's left edge, from each row's right edge to the next one's left, and the rest.
    std::memset(start, t.zero, std::size_t(t.top * t.row + left));
    std::uint8_t* edge = start + t.origin() + width;
    if (left + right > 0)
      for (int r = 0; r + 1 < t.h; r++, edge += t.row) std::memset(edge, t.zero, std::size_t(left + right));
    edge = start + t.origin() + (t.h - 1) * t.row + width;
    std::memset(edge, t.zero, std::size_t(t.bottom * t.row + right));
  }
}

}  // namespace

Net::Net(Tensor input, float scale, const std::string& isa, Choice winograd)
    : scale_(scale), kernels_(&choose_kernels(isa.c_str())), winograd_(winograd) {
  tensors_.push_back(input);
}

int Net::add_tensor(const Tensor& t) {
  tensors_.push_back(t);
  return int(tensors_.size()) - 1;
}

void Net::add(std::unique_ptr<Op> op) { ops_.push_back(std::move(op)); }

void Net::add_conv(ConvSpec spec) { add(make_conv(std::move(spec), tensors_, *kernels_, winograd_)); }

void Net::finish(const Options& options) {
  if (ops_.empty() || threads_) throw std::invalid_argument("finish: no operators, or finished before");
  keep_ = options.keep;
  threads_ = std::make_unique<Threads>(options.threads, options.worth);
  tensors_[0].packed = tensors_[0].c == 3;
  for (const auto& op : ops_)
    if (std::count(op->inputs.begin(), op->inputs.end(), 0) && !op->reads_packed()) tensors_[0].packed = false;
  place_views();
  for (const auto& op : ops_) op->require(tensors_);
  lay_out();
  for (auto& op : ops_)
    if (auto other = op->instead(tensors_)) op = std::move(other);
  for (const auto& op : ops_) op->prepare(tensors_, *kernels_, options.threads, pool_);
  split();
  images_ = options.images > 0 ? options.images : split_ == int(ops_.size()) ? 1 : kImages;
  live();
  allocate();
  ahead_.assign(ops_.size() + 2, 0);
  for (std::size_t i = ops_.size(); i-- > 0;) ahead_[i + 1] = ahead_[i + 2] + ops_[i]->operations(tensors_);
  ahead_[0] = ahead_[1] + kPerCode * double(tensors_[0].codes());
}

// An input of a concatenation whose channels begin a block, and whose codes stay as they are, is written in place.
void Net::place_views() {
  for (const auto& op : ops_) {
    const std::vector<float>* ratios = op->concat_ratios();
    if (!ratios) continue;
    int channel = 0;
    for (std::size_t i = 0; i < op->inputs.size(); channel += tensors_[op->inputs[i++]].c) {
      const int x = op->inputs[i];
      Tensor& t = tensors_[x];
      const bool parent = std::any_of(tensors_.begin(), tensors_.end(), [&](const Tensor& o) { return o.parent == x; });
      const bool whole = t.c % kBlock == 0 || i + 1 == op->inputs.size();
      if (x == 0 || t.parent >= 0 || parent || channel % kBlock || !whole) continue;
      if (same_codes(t, tensors_[op->output], (*ratios)[i])) t.parent = op->output, t.parent_block = channel / kBlock;
    }
  }
}

// Halos of views and of what they lie in are one; then distances.
void Net::lay_out() {
  const auto widen = [](Tensor& a, const Tensor& b) {
    a.top = std::max(a.top, b.top), a.left = std::max(a.left, b.left);
    a.bottom = std::max(a.bottom, b.bottom), a.right = std::max(a.right, b.right);
  };
  for (const Tensor& t : tensors_)
    if (t.parent >= 0) widen(tensors_[t.parent], t);
  for (Tensor& t : tensors_) {
    if (t.parent >= 0) widen(t, tensors_[t.parent]);
    t.lay_out();
    if (t.image >= std::int64_t(1) << 31) throw std::invalid_argument("an activation of more than 2 GB an image");
  }
  for (Tensor& t : tensors_)
    if (t.parent >= 0) t.plane = tensors_[t.parent].plane, t.image = tensors_[t.parent].image;
}

// Early operators have large activations: images pass them one by one, and activations stay in the cache. Late ones
// have large weights: images pass them together, and the weights are read once. The split moves the fewest bytes.
void Net::split() {
  const int count = int(ops_.size());
  std::int64_t weights = 0, bytes = 0;
  for (const auto& op : ops_) weights += op->weight_bytes();
  split_ = count;
  if (weights > kCache) {
    std::int64_t best = 0;  // of moving operators split_.. behind the split, against none
    for (int i = count - 1; i >= 0; i--) {
      bytes += tensors_[ops_[i]->output].image - ops_[i]->weight_bytes();
      for (int x : ops_[i]->inputs) bytes += tensors_[x].image;
      if (bytes < best) best = bytes, split_ = i;
    }
  }
}

// When each tensor's memory is in use. What crosses the split holds all images, from the first operator on.
void Net::live() {
  const int count = int(ops_.size());
  for (Tensor& t : tensors_) t.first = count, t.last = -1;
  tensors_[0].first = -1;
  for (int i = 0; i < count; i++) {
    Tensor& y = tensors_[root(ops_[i]->output)];
    if (y.first == count && y.has_halo()) ops_[i]->halos.push_back(root(ops_[i]->output));
    y.first = std::min(y.first, i), y.last = std::max(y.last, i);
    for (int x : ops_[i]->inputs) tensors_[root(x)].last = std::max(tensors_[root(x)].last, i);
  }
  tensors_[root(ops_.back()->output)].last = count;
  for (Tensor& t : tensors_) {
    t.together = keep_ || t.last >= split_;
    if (t.together && t.first < split_) t.first = -1;
  }
  tensors_[root(ops_.back()->output)].together |= split_ < count;
  for (int i = 0; i < tensor_count(); i++) {
    Tensor& t = tensors_[i];
    t.together = tensors_[root(i)].together;
    if (!t.together) t.image = 0;
  }
}

// Places tensors in one arena, the largest first, each at the lowest address that is free while it lives; `own`: only
// those that each thread has for itself.
std::int64_t Net::plan(std::vector<std::int64_t>& offsets, bool own) const {
  const auto size = [&](int i) { return (tensors_[i].bytes(images_of(tensors_[i])) + 63) / 64 * 64; };
  std::vector<int> order, placed;
  for (int i = 0; i < tensor_count(); i++)
    if (tensors_[i].parent < 0 && (!own || this->own(tensors_[i]))) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return size(a) > size(b); });
  offsets.assign(tensors_.size(), 0);
  std::int64_t total = 64;
  for (int i : order) {
    std::vector<int> meets;
    for (int j : placed)
      if (keep_ || (tensors_[j].first <= tensors_[i].last && tensors_[i].first <= tensors_[j].last)) meets.push_back(j);
    std::sort(meets.begin(), meets.end(), [&](int a, int b) { return offsets[a] < offsets[b]; });
    std::int64_t at = 0;
    for (int j : meets) {
      if (at + size(i) <= offsets[j]) break;
      at = std::max(at, offsets[j] + size(j));
    }
    offsets[i] = at;
    placed.push_back(i);
    total = std::max(total, at + size(i));
  }
  return total;
}

void Net::allocate() {
  std::vector<std::int64_t> offsets;
  arena_bytes_ = plan(offsets, false);
  std::uint8_t* arena = keep_ ? nullptr : pool_.take(arena_bytes_);
  for (int i = 0; i < tensor_count(); i++) {
    Tensor& t = tensors_[i];
    if (t.parent < 0) t.data = (keep_ ? pool_.take(t.bytes(images_of(t))) : arena + offsets[i]) + t.origin();
  }
  for (Tensor& t : tensors_)
    if (t.parent >= 0) t.data = tensors_[t.parent].data + t.parent_block * t.plane;
  const auto foreign = [](const auto& op) { return !op->any_thread(); };
  if (!keep_ && threads_->count() > 1 && std::none_of(ops_.begin(), ops_.begin() + split_, foreign)) allocate_views();
  scratch_size_ = 8 * std::int64_t(tensors_[0].w) + 64;
  for (const auto& op : ops_) scratch_size_ = std::max(scratch_size_, (op->scratch() + 63) / 64 * 64);
  scratch_ = pool_.take(scratch_size_ * threads_->count());
}

void Net::allocate_views() {
  std::vector<std::int64_t> offsets;
  const std::int64_t bytes = plan(offsets, true);
  views_.assign(std::size_t(threads_->count()), tensors_);
  for (std::size_t thread = 1; thread < views_.size(); thread++) {
    std::vector<Tensor>& view = views_[thread];
    std::uint8_t* arena = pool_.take(bytes);
    for (int i = 0; i < tensor_count(); i++)
      if (view[i].parent < 0 && own(view[i])) view[i].data = arena + offsets[i] + view[i].origin();
    for (Tensor& t : view)
      if (t.parent >= 0) t.data = view[t.parent].data + t.parent_block * t.plane;
    arena_bytes_ += bytes;
  }
}

bool Net::load(const void* images, bool floats, const std::vector<Tensor>& tensors, const Run& run) const {
  const Tensor& t = tensors[0];
  const std::int64_t pixels = std::int64_t(t.h) * t.w;
  std::atomic<bool> sane{true};
  run.each(std::int64_t(run.images) * t.h, [&](std::int64_t item, int thread) {
    const std::int64_t n = item / t.h, r = item % t.h;
    if (r == 0 && t.has_halo()) fill_halo(t, run.first + n);
    const View v = t.view(run.first + n);
    std::uint8_t* scratch = run.scratch_of(thread);
    if (floats && t.vector()) {
      if (!kernels_->quantize(static_cast<const float*>(images) + n * t.c, t.c, scale_, t.zero, t.lo, t.hi, v.data))
        sane = false;
      return;
    }
    for (int c = 0; c < t.c; c++) {
      const std::int64_t at = (n * t.c + c) * pixels + r * t.w;
      std::uint8_t* row = scratch + (t.packed ? c * std::int64_t(t.w) : 0);
      if (!floats)
        std::memcpy(row, static_cast<const std::uint8_t*>(images) + at, std::size_t(t.w));
      else if (!kernels_->quantize(static_cast<const float*>(images) + at, t.w, scale_, t.zero, t.lo, t.hi, row))
        sane = false;
      std::uint8_t* to = v.data + c / kBlock * v.plane + r * v.row + c % kBlock;
      for (int p = 0; p < t.w && !t.packed; p++) to[p * v.pixel] = row[p];
    }
    if (t.packed) kernels_->interleave(scratch, t.w, t.w, v.data + r * v.row);
  });
  return sane;
}

bool Net::run(const void* images, bool floats, std::int64_t n, std::uint8_t* out, double* seconds) {
  const std::lock_guard<std::mutex> lock(busy_);
  const Tensor &x = tensors_[0], &y = output();
  const std::int64_t in = std::int64_t(x.c) * x.h * x.w * (floats ? 4 : 1);
  const std::int64_t result = std::int64_t(y.c) * y.h * y.w * (y.floats ? 4 : 1);
  const int count = int(ops_.size());
  double start = seconds ? now() : 0;
  const auto lap = [&](int i) {
    if (!seconds) return;
    const double end = now();
    seconds[i] += end - start;
    start = end;
  };
  // The input (-1) or an operator, of run.images images now and of `more` images behind them.
  const auto begin = [&](Run& run, int i, std::int64_t more) {
    run.work = (ahead_[i + 1] - ahead_[i + 2]) * run.images;
    run.ahead = ahead_[i + 1] * run.images + ahead_[0] * double(more);
  };
  const auto operators = [&](int from, int to, const std::vector<Tensor>& tensors, Run& run, std::int64_t more) {
    for (int i = from; i < to; i++) {
      begin(run, i, more);
      for (int t : ops_[i]->halos)
        for (int image = 0; image < run.images; image++) fill_halo(tensors[t], run.first + image);
      ops_[i]->run(tensors, run);
      lap(i + 1);
    }
  };
  const bool whole = split_ == count && !keep_;  // images one by one to the end
  const std::int64_t group = whole ? n : images_;
  std::atomic<bool> sane{true};
  for (std::int64_t done = 0; done < n && sane; done += group) {
    const std::int64_t together = std::min<std::int64_t>(group, n - done);
    const std::int64_t each = keep_ ? together : 1;  // kept tensors hold all images anyway
    const auto early = [&](std::int64_t image, const std::vector<Tensor>& tensors, Run run) {
      run.first = whole ? 0 : image, run.images = int(each);
      const std::int64_t more = n - done - image - each;
      begin(run, -1, more);
      if (!load(static_cast<const char*>(images) + (done + image) * in, floats, tensors, run)) sane = false;
      if (!sane) return;
      lap(0);
      operators(0, split_, tensors, run, more);
      if (whole) to_dense(tensors[size_t(ops_.back()->output)], 0, out + (done + image) * result);
    };
    Run run{0, int(together), *threads_, scratch_, scratch_size_};
    if (together >= threads_->count() && !views_.empty() && !seconds) {  // an image each
      const double work = (ahead_[0] - ahead_[split_ + 1]) * double(together);
      threads_->each(together, work, ahead_[0] * double(n - done), [&](std::int64_t image, int thread) {
        early(image, views_[thread], Run{0, 1, alone_, run.scratch_of(thread), scratch_size_});
      });
    } else {
      for (std::int64_t image = 0; image < together && sane; image += each) early(image, tensors_, run);
    }
    if (whole || !sane) continue;
    operators(split_, count, tensors_, run, n - done - together);
    for (int image = 0; image < together; image++) to_dense(y, image, out + (done + image) * result);
  }
  return sane;
}

}  // namespace qb
