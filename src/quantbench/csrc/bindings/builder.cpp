// Networks, operator by operator. What an operator takes is its own business: see
// operators/registry.h.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/checks.h"
#include "bindings/arrays.h"
#include "bindings/bind.h"
#include "kernels/dispatch.h"
#include "network/net.h"
#include "operators/registry.h"

namespace py = pybind11;

namespace qb {
namespace {

[[noreturn]] void refuse(const std::string& name, const char* problem) {
  throw std::invalid_argument(name + ": " + problem);
}

template <typename T>
bool borrow(py::handle value, Argument& to) {
  if (!py::isinstance<Array<T>>(value)) return false;
  const auto array = py::reinterpret_borrow<Array<T>>(value);
  to = Values<T>{array.data(), {array.shape(), array.shape() + array.ndim()}};
  return true;
}

Argument from_array(const std::string& name, py::handle value) {
  Argument to;
  const bool known = borrow<std::int8_t>(value, to) || borrow<std::int16_t>(value, to) ||
                     borrow<std::int32_t>(value, to) || borrow<std::uint8_t>(value, to) ||
                     borrow<float>(value, to);
  if (!known) refuse(name, "an array of another type, or not in C order");
  return to;
}

std::int64_t from_integer(const std::string& name, py::handle value) {
  const auto integer = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!integer) throw py::error_already_set();
  int overflow = 0;
  const std::int64_t found = PyLong_AsLongLongAndOverflow(integer.ptr(), &overflow);
  if (overflow) refuse(name, "an integer of more than 64 bits");
  return found;
}

double from_number(const std::string& name, py::handle value) {
  const double found = PyFloat_AsDouble(value.ptr());
  if (found == -1.0 && PyErr_Occurred()) {
    PyErr_Clear();
    refuse(name, "no number");
  }
  return found;
}

std::vector<double> from_sequence(const std::string& name, py::handle value) {
  std::vector<double> list;
  for (const py::handle item : py::reinterpret_borrow<py::sequence>(value))
    list.push_back(from_number(name, item));
  return list;
}

// `function` maps arrays of codes (n, c, h, w) to one such array.
Foreign from_function(py::handle value) {
  auto shared = std::make_shared<py::function>(py::reinterpret_borrow<py::function>(value));
  return [shared](const std::vector<Codes>& x, const Codes& y) {
    const py::gil_scoped_acquire gil;
    py::list arrays;
    for (const Codes& codes : x) {
      Array<std::uint8_t> a(codes.shape);
      std::copy(codes.data, codes.data + codes.size(), a.mutable_data());
      arrays.append(a);
    }
    const auto result = py::cast<Array<std::uint8_t>>((*shared)(*arrays));
    require(result.size() == y.size(), "a function whose result has another shape");
    std::copy(result.data(), result.data() + result.size(), y.data);
  };
}

// Integers, floats, sequences of numbers, arrays in C order (borrowed), functions of arrays of
// codes.
Argument convert(const std::string& name, py::handle value) {
  if (py::isinstance<py::array>(value)) return from_array(name, value);
  if (PyIndex_Check(value.ptr())) return from_integer(name, value);
  if (py::isinstance<py::tuple>(value) || py::isinstance<py::list>(value))
    return from_sequence(name, value);
  if (py::isinstance<py::function>(value)) return from_function(value);
  return from_number(name, value);
}

class Builder {
 public:
  Builder(std::array<int, 3> shape, int zero, int lo, int hi, float scale, const std::string& isa,
          std::optional<bool> winograd)
      : graph_(std::make_unique<Graph>()) {
    require(std::isfinite(scale) && scale > 0, "a scale that is not positive");
    graph_->add_tensor(tensor(shape, zero, lo, hi));
    graph_->scale = scale;
    graph_->kernels = &choose_kernels(isa);
    graph_->winograd = !winograd ? Choice::model : *winograd ? Choice::always : Choice::never;
  }

  // Arguments that are None count as missing. Returns the number of the operator's output.
  int add(const std::string& name, std::vector<int> inputs, const py::kwargs& arguments) {
    require(graph_ != nullptr, "finished before");
    std::map<std::string, Argument> values;
    for (const auto& [key, value] : arguments) {
      const auto argument = py::cast<std::string>(key);
      if (!value.is_none()) values.emplace(argument, convert(name + ": " + argument, value));
    }
    return add_operator(name, Arguments(name, std::move(inputs), std::move(values)), *graph_);
  }

  std::unique_ptr<Net> finish(int threads, int images, bool keep, std::optional<double> worth) {
    require(graph_ != nullptr, "finished before");
    require(1 <= threads && threads <= 1024 && 0 <= images && images <= 4096,
            "threads or images out of range");
    require(!worth || *worth >= 0, "a number of operations below 0");
    require(!graph_->ops.empty(), "a network without operators");
    const std::unique_ptr<Graph> graph = std::move(graph_);
    return std::make_unique<Net>(std::move(*graph),
                                 Options{threads, images, keep, worth.value_or(Threads::kWorth)});
  }

 private:
  std::unique_ptr<Graph> graph_;
};

}  // namespace

void bind_builder(py::module_& m) {
  py::class_<Builder>(m, "Builder")
      .def(py::init<std::array<int, 3>, int, int, int, float, const std::string&,
                    std::optional<bool>>(),
           py::arg("shape"), py::arg("zero"), py::arg("lo"), py::arg("hi"), py::arg("scale"),
           py::arg("isa"), py::arg("winograd") = py::none())
      .def("add", &Builder::add)
      .def("finish", &Builder::finish, py::arg("threads"), py::arg("images"), py::arg("keep"),
           py::arg("worth") = py::none());
}

}  // namespace qb
