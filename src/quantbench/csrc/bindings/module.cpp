// The extension module `quantbench._native`.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/checks.h"
#include "bindings/bind.h"
#include "kernels/dispatch.h"
#include "operators/registry.h"

namespace py = pybind11;

namespace qb {
namespace {

std::int64_t multiply(const std::string& isa, std::int64_t rounds) {
  require(0 <= rounds && rounds <= std::int64_t(1) << 40, "rounds outside of 0..2^40");
  const py::gil_scoped_release free;
  return choose_kernels(isa).multiply(rounds);
}

}  // namespace
}  // namespace qb

PYBIND11_MODULE(_native, m) {
  m.doc() = "Kernels for integer inference and float convolution; use quantbench.compile, quantbench.quantization.conv3x3.";
  m.def("instruction_sets", &qb::instruction_sets);
  m.def("operators", &qb::operator_names);
  m.def("isa", [](const std::string& name) { return qb::choose_kernels(name).name; }, py::arg("name") = "");
  m.def("multiply", &qb::multiply, py::arg("name"), py::arg("rounds"));
  qb::bind_network(m);
  qb::bind_builder(m);
  qb::bind_float_conv(m);
}
