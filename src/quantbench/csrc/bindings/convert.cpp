#include "bindings/convert.h"

#include <memory>

#include "base/checks.h"
#include "bindings/arrays.h"

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
                     borrow<std::int32_t>(value, to) || borrow<std::uint8_t>(value, to) || borrow<float>(value, to);
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
  for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) list.push_back(from_number(name, item));
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

}  // namespace

Argument convert(const std::string& name, py::handle value) {
  if (py::isinstance<py::array>(value)) return from_array(name, value);
  if (PyIndex_Check(value.ptr())) return from_integer(name, value);
  if (py::isinstance<py::tuple>(value) || py::isinstance<py::list>(value)) return from_sequence(name, value);
  if (py::isinstance<py::function>(value)) return from_function(value);
  return from_number(name, value);
}

}  // namespace qb
