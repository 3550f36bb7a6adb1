// Networks, operator by operator. What an operator takes is its own business: see operators/registry.h.
#include <pybind11/stl.h>

#include <cmath>
#include <optional>

#include "base/checks.h"
#include "bindings/bind.h"
#include "bindings/convert.h"
#include "kernels/dispatch.h"
#include "network/net.h"
#include "operators/registry.h"

namespace py = pybind11;

namespace qb {
namespace {

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
    require(1 <= threads && threads <= 1024 && 0 <= images && images <= 4096, "threads or images out of range");
    require(!worth || *worth >= 0, "a number of operations below 0");
    require(!graph_->ops.empty(), "a network without operators");
    const std::unique_ptr<Graph> graph = std::move(graph_);
    return std::make_unique<Net>(std::move(*graph), Options{threads, images, keep, worth.value_or(Threads::kWorth)});
  }

 private:
  std::unique_ptr<Graph> graph_;
};

}  // namespace

void bind_builder(py::module_& m) {
  py::class_<Builder>(m, "Builder")
      .def(py::init<std::array<int, 3>, int, int, int, float, const std::string&, std::optional<bool>>(),
           py::arg("shape"), py::arg("zero"), py::arg("lo"), py::arg("hi"), py::arg("scale"), py::arg("isa"),
           py::arg("winograd") = py::none())
      .def("add", &Builder::add)
      .def("finish", &Builder::finish, py::arg("threads"), py::arg("images"), py::arg("keep"),
           py::arg("worth") = py::none());
}

}  // namespace qb
