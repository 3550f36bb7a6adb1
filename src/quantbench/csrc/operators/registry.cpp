#include "operators/registry.h"

#include <stdexcept>

// Every operator: a file of this folder defines `int make_NAME(const Arguments&, Graph&)`, which
// checks arguments, adds the output and the operator, and returns the output's number.
#define QB_OPERATORS(OPERATOR) \
  OPERATOR(conv)               \
  OPERATOR(add)                \
  OPERATOR(mul)                \
  OPERATOR(concat)             \
  OPERATOR(max_pool)           \
  OPERATOR(avg_pool)           \
  OPERATOR(lrn)                \
  OPERATOR(lut)                \
  OPERATOR(pad)                \
  OPERATOR(select)             \
  OPERATOR(rearrange)          \
  OPERATOR(resize)             \
  OPERATOR(flatten)            \
  OPERATOR(dequantize)         \
  OPERATOR(foreign)

namespace qb {

#define QB_DECLARE(NAME) int make_##NAME(const Arguments&, Graph&);
QB_OPERATORS(QB_DECLARE)
#undef QB_DECLARE

namespace {

struct Entry {
  const char* name;
  int (*make)(const Arguments&, Graph&);
};

#define QB_ENTRY(NAME) {#NAME, make_##NAME},
constexpr Entry kOperators[] = {QB_OPERATORS(QB_ENTRY)};
#undef QB_ENTRY

}  // namespace

int add_operator(const std::string& name, const Arguments& args, Graph& graph) {
  for (const Entry& entry : kOperators)
    if (name == entry.name) {
      const int output = entry.make(args, graph);
      args.all_read();
      return output;
    }
  throw std::invalid_argument("no operator '" + name + "'");
}

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kOperators) names.emplace_back(entry.name);
  return names;
}

}  // namespace qb
