// The extension module `quantbench._native`.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "checks.h"
#include "float_module.h"
#include "net.h"

namespace py = pybind11;

namespace qb {
namespace {

template <typename T>
std::vector<T> copy(const Array<T>& a, std::int64_t size, const char* what) {
  require(a.size() == size, what);
  return {a.data(), a.data() + a.size()};
}

Tensor tensor(std::array<int, 3> shape, int zero, int lo, int hi) {
  for (int n : shape) require(1 <= n && n <= kLargest, "a shape outside of 1..65536");
  require(0 <= zero && zero <= 255 && 0 <= lo && lo <= hi && hi <= 255, "codes outside of 0..255");
  require(std::int64_t(shape[0]) * shape[1] * shape[2] < std::int64_t(1) << 31, "a tensor of more than 2^31 codes");
  Tensor t;
  t.c = shape[0], t.h = shape[1], t.w = shape[2], t.zero = zero, t.lo = lo, t.hi = hi;
  return t;
}

bool finite(const std::vector<float>& m) {
  return std::all_of(m.begin(), m.end(), [](float v) { return std::isfinite(v) && v > 0; });
}

class Builder {
 public:
  Builder(std::array<int, 3> shape, int zero, int lo, int hi, float scale, const std::string& isa,
          std::optional<bool> winograd)
      : net_(std::make_unique<Net>(tensor(shape, zero, lo, hi), scale, isa,
                                   !winograd ? Choice::model : *winograd ? Choice::always : Choice::never)) {
    require(std::isfinite(scale) && scale > 0, "a scale that is not positive");
  }

  int conv(int x, int r, const Array<std::int8_t>& weight, const Array<std::int16_t>& weight_zero,
           const Array<std::int32_t>& bias, const Array<float>& m, const std::optional<Array<std::uint8_t>>& lo,
           const std::optional<Array<std::uint8_t>>& hi, int zero, float ratio, std::array<int, 2> stride,
           std::array<int, 4> pads, std::array<int, 2> dilation, int groups) {
    const Tensor& in = codes(x);
    require(weight.ndim() == 4, "a weight that is not (O, I, kh, kw)");
    ConvSpec s{};
    s.x = x, s.r = r;
    std::array<std::int64_t, 4> shape{};
    for (int i = 0; i < 4; i++) {
      shape[i] = weight.shape(i);
      require(1 <= shape[i] && shape[i] <= kLargest, "a weight size outside of 1..65536");
    }
    s.oc = int(shape[0]), s.ic = int(shape[1]), s.kh = int(shape[2]), s.kw = int(shape[3]);
    s.groups = groups, s.ratio = ratio;
    require(1 <= groups && s.oc % groups == 0 && std::int64_t(s.ic) * groups == in.c, "groups that do not fit");
    s.weight = copy(weight, weight.size(), "");
    s.weight_zero = copy(weight_zero, s.oc, "weight_zero of a wrong length");
    for (int z : s.weight_zero) require(std::abs(z) <= 255, "a weight zero point outside of -255..255");
    s.bias = copy(bias, s.oc, "bias of a wrong length");
    s.m = copy(m, s.oc, "m of a wrong length");
    require(finite(s.m), "a multiplier that is not positive and finite");
    require(lo.has_value() == hi.has_value(), "lo without hi");
    if (lo) s.lo = copy(*lo, s.oc, "lo of a wrong length"), s.hi = copy(*hi, s.oc, "hi of a wrong length");
    window(in, {s.kh, s.kw}, stride, pads, dilation);
    s.sy = stride[0], s.sx = stride[1], s.top = pads[0], s.left = pads[1], s.bottom = pads[2], s.right = pads[3];
    s.dy = dilation[0], s.dx = dilation[1];
    const int oh = size(in.h, s.kh, s.sy, s.top + s.bottom, s.dy), ow = size(in.w, s.kw, s.sx, s.left + s.right, s.dx);
    Tensor y = tensor({s.oc, oh, ow}, zero, lo ? *std::min_element(s.lo.begin(), s.lo.end()) : 0,
                      lo ? *std::max_element(s.hi.begin(), s.hi.end()) : 255);
    y.floats = !lo;
    for (int o = 0; lo && o < s.oc; o++) require(s.lo[o] <= s.hi[o], "lo above hi");
    require(accumulator_bound(s, in) < std::int64_t(1) << 31, "an accumulator could leave int32");
    if (r >= 0) {
      require(lo && same(codes(r), y), "a residual of another shape");
      require(finite({ratio}), "a ratio that is not positive and finite");
    }
    s.y = net_->add_tensor(y);
    net_->add_conv(std::move(s));
    return net_->tensor_count() - 1;
  }

  int add(int a, int b, float a_ratio, float b_ratio, int zero, int lo, int hi) {
    const Tensor &x = codes(a), &z = codes(b);
    require(same(x, z) && finite({a_ratio, b_ratio}), "a sum of different shapes, or a ratio that is not positive");
    const AddTerms terms{x.zero, z.zero, a_ratio, b_ratio, zero, lo, hi};
    const int y = net_->add_tensor(tensor({x.c, x.h, x.w}, zero, lo, hi));
    net_->add(make_add(a, b, y, terms));
    return y;
  }

  int concat(const std::vector<int>& x, const std::vector<float>& ratios, int zero, int lo, int hi) {
    require(!x.empty() && ratios.size() == x.size() && finite(ratios), "a concatenation without inputs or ratios");
    const Tensor first = codes(x[0]);
    std::int64_t channels = 0;
    for (int i : x) {
      require(codes(i).h == first.h && codes(i).w == first.w, "a concatenation of different sizes");
      channels += codes(i).c;
    }
    require(channels <= kLargest, "too many channels");
    const int y = net_->add_tensor(tensor({int(channels), first.h, first.w}, zero, lo, hi));
    net_->add(make_concat(x, y, ratios));
    return y;
  }

  int max_pool(int x, std::array<int, 2> kernel, std::array<int, 2> stride, std::array<int, 4> pads) {
    const Tensor in = codes(x);
    const PoolWindow w = pool(in, kernel, stride, pads);
    for (int i = 0; i < 4; i++) require(pads[i] < kernel[i % 2], "a window that lies in the padding alone");
    const int y = net_->add_tensor(tensor({in.c, w.oh, w.ow}, in.zero, in.lo, in.hi));
    net_->add(make_max_pool(x, y, w));
    return y;
  }

  int avg_pool(int x, std::array<int, 2> kernel, std::array<int, 2> stride, std::array<int, 4> pads,
               const Array<float>& multipliers, int zero, int lo, int hi) {
    const Tensor in = codes(x);
    const PoolWindow w = pool(in, kernel, stride, pads);
    require(std::int64_t(kernel[0]) * kernel[1] < (std::int64_t(1) << 31) / 255, "a window that could overflow");
    std::vector<float> m = copy(multipliers, std::int64_t(w.oh) * w.ow, "multipliers of a wrong length");
    require(finite(m), "a multiplier that is not positive and finite");
    const int y = net_->add_tensor(tensor({in.c, w.oh, w.ow}, zero, lo, hi));
    net_->add(make_avg_pool(x, y, w, {in.zero, zero, lo, hi, nullptr}, std::move(m)));
    return y;
  }

  int lrn(int x, int size, double alpha, double k, double ratio, int zero, int lo, int hi) {
    const Tensor in = codes(x);
    require(1 <= size && size <= kLargest && alpha >= 0 && k > 0 && ratio > 0, "a normalization without meaning");
    require(std::isfinite(alpha) && std::isfinite(k) && std::isfinite(ratio), "a normalization without meaning");
    const int y = net_->add_tensor(tensor({in.c, in.h, in.w}, zero, lo, hi));
    net_->add(make_lrn(x, y, {in.c, size / 2, (size - 1) / 2, in.zero, zero, lo, hi, k, alpha, ratio}));
    return y;
  }

  int lut(int x, const Array<std::uint8_t>& table, int zero) {
    const Tensor in = codes(x);
    std::vector<std::uint8_t> entries = copy(table, 256, "a table that has not 256 entries");
    const auto ends = std::minmax_element(entries.begin(), entries.end());
    const int y = net_->add_tensor(tensor({in.c, in.h, in.w}, zero, *ends.first, *ends.second));
    net_->add(make_lut(x, y, std::move(entries)));
    return y;
  }

  int pad(int x, std::array<int, 6> pads, std::array<int, 2> stride) {
    const Tensor in = codes(x);
    for (int p : pads) require(0 <= p && p <= kLargest, "padding outside of 0..65536");
    for (int s : stride) require(1 <= s && s <= kLargest, "a stride outside of 1..65536");
    const std::array<int, 3> shape{pads[0] + in.c + pads[1], pads[2] + (in.h + stride[0] - 1) / stride[0] + pads[4],
                                   pads[3] + (in.w + stride[1] - 1) / stride[1] + pads[5]};
    const int y = net_->add_tensor(tensor(shape, in.zero, in.lo, in.hi));
    net_->add(make_pad(x, y, pads[0], pads[2], pads[3], stride[0], stride[1]));
    return y;
  }

  int flatten(int x) {
    const Tensor in = codes(x);
    const std::int64_t size = std::int64_t(in.c) * in.h * in.w;
    require(size <= kLargest, "a vector longer than 65536");
    const int y = net_->add_tensor(tensor({int(size), 1, 1}, in.zero, in.lo, in.hi));
    net_->add(make_flatten(x, y));
    return y;
  }

  int dequantize(int x, float scale) {
    const Tensor in = codes(x);
    require(finite({scale}), "a scale that is not positive");
    Tensor y = tensor({in.c, in.h, in.w}, 0, 0, 255);
    y.floats = true;
    net_->add_tensor(y);
    net_->add(make_dequantize(x, net_->tensor_count() - 1, scale));
    return net_->tensor_count() - 1;
  }

  // `function` maps arrays of codes (n, c, h, w) to one such array of `shape`.
  int foreign(const std::vector<int>& x, std::array<int, 3> shape, int zero, py::function function) {
    require(!x.empty(), "an operator without inputs");
    std::vector<std::array<int, 3>> shapes;
    for (int i : x) shapes.push_back({codes(i).c, codes(i).h, codes(i).w});
    const int y = net_->add_tensor(tensor(shape, zero, 0, 255));
    auto call = [shapes, shape, f = std::make_shared<py::function>(std::move(function))](
                    const std::vector<std::vector<std::uint8_t>>& dense, int images, std::uint8_t* out) {
      const py::gil_scoped_acquire gil;
      py::list arrays;
      for (std::size_t i = 0; i < dense.size(); i++) {
        Array<std::uint8_t> a({images, shapes[i][0], shapes[i][1], shapes[i][2]});
        std::copy(dense[i].begin(), dense[i].end(), a.mutable_data());
        arrays.append(a);
      }
      const auto y = py::cast<Array<std::uint8_t>>((*f)(*arrays));
      const std::int64_t size = std::int64_t(images) * shape[0] * shape[1] * shape[2];
      require(y.size() == size, "a function whose result has another shape");
      std::copy(y.data(), y.data() + size, out);
    };
    net_->add(make_foreign(x, y, call));
    return y;
  }

  std::unique_ptr<Net> finish(int threads, int images, bool keep, std::optional<double> worth) {
    require(net_ != nullptr, "finished before");
    require(1 <= threads && threads <= 1024 && 0 <= images && images <= 4096, "threads or images out of range");
    require(!worth || *worth >= 0, "a number of operations below 0");
    net_->finish({threads, images, keep, worth.value_or(Threads::kWorth)});
    return std::move(net_);
  }

 private:
  const Tensor& codes(int i) const {
    require(net_ != nullptr, "finished before");
    require(0 <= i && i < net_->tensor_count() && !net_->tensor(i).floats, "an input that is no tensor of codes");
    return net_->tensor(i);
  }
  static bool same(const Tensor& a, const Tensor& b) { return a.c == b.c && a.h == b.h && a.w == b.w; }
  static int size(int n, int kernel, int stride, int pads, int dilation) {
    return (n + pads - ((kernel - 1) * dilation + 1)) / stride + 1;
  }
  static void window(const Tensor& in, std::array<int, 2> kernel, std::array<int, 2> stride, std::array<int, 4> pads,
                     std::array<int, 2> dilation) {
    for (int i = 0; i < 2; i++) {
      require(1 <= kernel[i] && kernel[i] <= kLargest && 1 <= stride[i] && stride[i] <= kLargest, "kernel or stride");
      require(1 <= dilation[i] && dilation[i] <= kLargest, "a dilation outside of 1..65536");
      require(0 <= pads[i] && pads[i] <= kLargest && 0 <= pads[i + 2] && pads[i + 2] <= kLargest, "padding");
      const std::int64_t reach = std::int64_t(kernel[i] - 1) * dilation[i] + 1;
      require(reach <= std::int64_t(i ? in.w : in.h) + pads[i] + pads[i + 2], "a window larger than the image");
    }
  }
  static PoolWindow pool(const Tensor& in, std::array<int, 2> kernel, std::array<int, 2> stride,
                         std::array<int, 4> pads) {
    window(in, kernel, stride, pads, {1, 1});
    return {in.h, in.w, size(in.h, kernel[0], stride[0], pads[0] + pads[2], 1),
            size(in.w, kernel[1], stride[1], pads[1] + pads[3], 1), kernel[0], kernel[1], stride[0], stride[1],
            pads[0], pads[1]};
  }

  std::unique_ptr<Net> net_;
};

py::array run(Net& net, const py::array& images, double* seconds) {
  const Tensor &x = net.tensor(0), &y = net.output();
  const bool floats = py::isinstance<Array<float>>(images);
  require(floats || py::isinstance<Array<std::uint8_t>>(images), "images that are neither float32 nor uint8, in C order");
  require(images.ndim() == 4 && images.shape(1) == x.c && images.shape(2) == x.h && images.shape(3) == x.w,
          "images whose shape is not the network's");
  const std::vector<py::ssize_t> shape{images.shape(0), y.c, y.h, y.w};
  py::array out = y.floats ? py::array(py::dtype::of<float>(), shape) : py::array(py::dtype::of<std::uint8_t>(), shape);
  bool sane = true;
  {
    auto* to = static_cast<std::uint8_t*>(out.mutable_data());
    const void* from = images.data();
    const std::int64_t n = images.shape(0);
    const py::gil_scoped_release free;
    sane = net.run(from, floats, n, to, seconds);
  }
  require(sane, "an image holds NaN");
  return out;
}

// A tensor of the last run, of its last `images` images.
py::array read_tensor(const Net& net, int i, int images) {
  require(net.keeps(), "tensors are only kept by a network that was finished with keep");
  require(0 <= i && i < net.tensor_count() && 0 <= images && images <= net.image_limit(), "no such tensor or image");
  const Tensor& t = net.tensor(i);
  const std::vector<py::ssize_t> shape{images, t.c, t.h, t.w};
  py::array out = t.floats ? py::array(py::dtype::of<float>(), shape) : py::array(py::dtype::of<std::uint8_t>(), shape);
  auto* to = static_cast<std::uint8_t*>(out.mutable_data());
  const std::int64_t size = std::int64_t(t.c) * t.h * t.w * (t.floats ? 4 : 1);
  for (int n = 0; n < images; n++) to_dense(t, n, to + n * size);
  return out;
}

py::list profile(Net& net, const py::array& images, int repeats) {
  std::vector<double> seconds(net.ops().size() + 1);
  for (int i = 0; i < repeats; i++) run(net, images, seconds.data());
  py::list rows;
  for (std::size_t i = 0; i < seconds.size(); i++)
    rows.append(py::make_tuple(i ? net.ops()[i - 1]->kind() : "input", i ? net.ops()[i - 1]->output : 0,
                               seconds[i] / std::max(1, repeats)));
  return rows;
}

}  // namespace
}  // namespace qb

PYBIND11_MODULE(_native, m) {
  using namespace qb;
  m.doc() = "Kernels for integer inference and float convolution; use quantbench.integer.native, quantbench.convolve.";
  m.def("isa", [](const std::string& name) { return choose_kernels(name.c_str()).name; }, py::arg("name") = "");
  bind_float_conv(m);
  m.def("multiply", [](const std::string& name, std::int64_t rounds) {
    require(0 <= rounds && rounds <= std::int64_t(1) << 40, "rounds outside of 0..2^40");
    const py::gil_scoped_release free;
    return choose_kernels(name.c_str()).multiply(rounds);
  }, py::arg("name"), py::arg("rounds"));
  py::class_<Net>(m, "Net")
      .def("__call__", [](Net& net, const py::array& images) { return run(net, images, nullptr); })
      .def("read", &read_tensor)
      .def("profile", &profile)
      .def_property_readonly("image_limit", &Net::image_limit)
      .def_property_readonly("arena_bytes", &Net::arena_bytes)
      .def_property_readonly("isa", [](const Net& net) { return net.kernels().name; });
  py::class_<Builder>(m, "Builder")
      .def(py::init<std::array<int, 3>, int, int, int, float, const std::string&, std::optional<bool>>(), py::arg("shape"),
           py::arg("zero"), py::arg("lo"), py::arg("hi"), py::arg("scale"), py::arg("isa"),
           py::arg("winograd") = py::none())
      .def("conv", &Builder::conv, py::arg("x"), py::arg("r"), py::arg("weight"), py::arg("weight_zero"),
           py::arg("bias"), py::arg("m"), py::arg("lo").none(true), py::arg("hi").none(true), py::arg("zero"),
           py::arg("ratio"), py::arg("stride"), py::arg("pads"), py::arg("dilation"), py::arg("groups"))
      .def("add", &Builder::add)
      .def("concat", &Builder::concat)
      .def("max_pool", &Builder::max_pool)
      .def("avg_pool", &Builder::avg_pool)
      .def("lrn", &Builder::lrn)
      .def("lut", &Builder::lut)
      .def("pad", &Builder::pad)
      .def("flatten", &Builder::flatten)
      .def("dequantize", &Builder::dequantize)
      .def("foreign", &Builder::foreign)
      .def("finish", &Builder::finish, py::arg("threads"), py::arg("images"), py::arg("keep"),
           py::arg("worth") = py::none());
}
