// The extension module `quantbench._native`.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "base/checks.h"
#include "bindings/arrays.h"
#include "bindings/bind.h"
#include "kernels/dispatch.h"
#include "network/net.h"
#include "operators/registry.h"

namespace py = pybind11;

namespace qb {
namespace {

py::array empty(const std::vector<py::ssize_t>& shape, const Tensor& t) {
  return t.floats ? py::array(py::dtype::of<float>(), shape)
                  : py::array(py::dtype::of<std::uint8_t>(), shape);
}

// [image][codes or floats of the output].
py::array run(Net& net, const py::array& images, double* seconds) {
  const Tensor &x = net.input(), &y = net.output();
  const bool floats = py::isinstance<Array<float>>(images);
  require(floats || py::isinstance<Array<std::uint8_t>>(images),
          "images that are neither float32 nor uint8, in C order");
  require(images.ndim() == 4 && images.shape(1) == x.c && images.shape(2) == x.h &&
              images.shape(3) == x.w,
          "images whose shape is not the network's");
  py::array out = empty({images.shape(0), py::ssize_t(y.codes())}, y);
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
  require(0 <= i && i < net.graph().tensor_count() && 0 <= images && images <= net.image_limit(),
          "no such tensor or image");
  const Tensor& t = net.graph().tensors[std::size_t(i)];
  py::array out = empty({images, t.c, t.h, t.w}, t);
  auto* to = static_cast<std::uint8_t*>(out.mutable_data());
  for (int n = 0; n < images; n++) to_dense(t, n, to + n * t.result_bytes());
  return out;
}

// Of the input and of every operator: kernel, number of the output, mean seconds.
py::list profile(Net& net, const py::array& images, int repeats) {
  const auto& ops = net.graph().ops;
  std::vector<double> seconds(ops.size() + 1);
  for (int i = 0; i < repeats; i++) run(net, images, seconds.data());
  py::list rows;
  for (std::size_t i = 0; i < seconds.size(); i++)
    rows.append(py::make_tuple(i ? ops[i - 1]->kind() : "input", i ? ops[i - 1]->output : 0,
                               seconds[i] / std::max(1, repeats)));
  return rows;
}

std::int64_t multiply(const std::string& isa, std::int64_t rounds) {
  require(0 <= rounds && rounds <= std::int64_t(1) << 40, "rounds outside of 0..2^40");
  const py::gil_scoped_release free;
  return choose_kernels(isa).multiply(rounds);
}

}  // namespace
}  // namespace qb

PYBIND11_MODULE(_native, m) {
  using namespace qb;
  m.doc() =
      "Kernels for integer inference and float convolution; use quantbench.compile, "
      "quantbench.quantization.conv3x3.";
  m.def("instruction_sets", &instruction_sets);
  m.def("operators", &operator_names);
  m.def(
      "isa", [](const std::string& name) { return choose_kernels(name).name; },
      py::arg("name") = "");
  m.def("multiply", &multiply, py::arg("name"), py::arg("rounds"));
  py::class_<Net>(m, "Net")
      .def("__call__", [](Net& net, const py::array& images) { return run(net, images, nullptr); })
      .def("read", &read_tensor)
      .def("profile", &profile)
      .def_property_readonly("image_limit", &Net::image_limit)
      .def_property_readonly("arena_bytes", &Net::arena_bytes)
      .def_property_readonly("isa", [](const Net& net) { return net.graph().kernels->name; });
  bind_builder(m);
  bind_float_conv(m);
}
