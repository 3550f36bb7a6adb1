// Float convolution for Python. Every shape is checked before a kernel sees it.
#include "bindings/bind.h"

#include <pybind11/stl.h>

#include <optional>

#include "base/checks.h"
#include "bindings/arrays.h"
#include "float/float_conv.h"

namespace py = pybind11;

namespace qb {
namespace {

using Floats = Array<float>;
using Maybe = std::optional<Floats>;

bool shaped(const Floats& a, std::initializer_list<py::ssize_t> shape) {
  if (a.ndim() != py::ssize_t(shape.size())) return false;
  int i = 0;
  for (const py::ssize_t n : shape)
    if (a.shape(i++) != n) return false;
  return true;
}

FloatConv sizes(const Floats& x, py::ssize_t k, int threads) {
  require(x.ndim() == 4, "images that are not (N, H, W, C)");
  const py::ssize_t c = x.shape(3);
  for (const py::ssize_t n : {x.shape(1), x.shape(2), c, k})
    require(1 <= n && n <= kLargest, "a size outside of 1..65536");
  require(c % 16 == 0 && k % 16 == 0, "channels that are no multiple of 16");
  require(1 <= threads && threads <= 1024, "threads outside of 1..1024");
  return {x.shape(0), int(x.shape(1)), int(x.shape(2)), int(c), int(k)};
}

bool outputs(const FloatConv& s, const Floats& y) { return shaped(y, {s.images, s.h, s.w, s.k}); }

const float* data(const Maybe& a) { return a ? a->data() : nullptr; }
float* mutable_data(Maybe& a) { return a ? a->mutable_data() : nullptr; }

const FloatKernels& kernels(const std::string& isa) {
  const FloatKernels* found = choose_float_kernels(isa);
  require(found, "an instruction set that this processor lacks: see float_instruction_sets()");
  return *found;
}

void conv(const Floats& x, const Floats& filter, const Maybe& bias, const Maybe& add, bool relu,
          Floats y, int threads, const std::string& isa) {
  const FloatKernels& set = kernels(isa);
  require(filter.ndim() == 4, "a filter that is not (3, 3, C, K)");
  const FloatConv s = sizes(x, filter.shape(3), threads);
  require(shaped(filter, {3, 3, s.c, s.k}), "a filter that does not fit the images");
  require(outputs(s, y) && (!add || outputs(s, *add)), "an output or a summand of a wrong shape");
  require(!bias || shaped(*bias, {s.k}), "a bias of a wrong shape");
  const FloatTail tail{data(bias), data(add), relu};
  float* to = y.mutable_data();
  const float *from = x.data(), *by = filter.data();
  const py::gil_scoped_release free;
  float_conv(set, s, from, by, tail, to, threads);
}

void back(const Floats& x, const Maybe& turned, const Floats& dy, const Maybe& y, Maybe dx,
          Maybe dfilter, int threads, const std::string& isa) {
  const FloatKernels& set = kernels(isa);
  require(dy.ndim() == 4, "a gradient that is not (N, H, W, K)");
  const FloatConv s = sizes(x, dy.shape(3), threads);
  require(outputs(s, dy) && (!y || outputs(s, *y)), "a gradient or an output of a wrong shape");
  require(turned.has_value() == dx.has_value(),
          "dx without the turned filter, or the other way round");
  require(!turned || shaped(*turned, {3, 3, s.k, s.c}), "a turned filter of a wrong shape");
  require(!dx || shaped(*dx, {s.images, s.h, s.w, s.c}), "dx of a wrong shape");
  require(!dfilter || shaped(*dfilter, {3, 3, s.c, s.k}), "a filter's gradient of a wrong shape");
  float *to = mutable_data(dx), *filter = mutable_data(dfilter);
  const float *from = x.data(), *by = data(turned), *g = dy.data(), *output = data(y);
  const py::gil_scoped_release free;
  float_conv_back(set, s, from, by, g, output, to, filter, threads);
}

}  // namespace

void bind_float_conv(py::module_& m) {
  m.def("float_instruction_sets", &float_instruction_sets);
  m.def("float_conv", &conv, py::arg("x").noconvert(), py::arg("filter").noconvert(),
        py::arg("bias").noconvert(), py::arg("add").noconvert(), py::arg("relu"),
        py::arg("y").noconvert(), py::arg("threads"), py::arg("isa") = "");
  m.def("float_conv_back", &back, py::arg("x").noconvert(), py::arg("turned").noconvert(),
        py::arg("dy").noconvert(), py::arg("y").noconvert(), py::arg("dx").noconvert(),
        py::arg("dfilter").noconvert(), py::arg("threads"), py::arg("isa") = "");
}

}  // namespace qb
