#include "operators/arguments.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace qb {

void Arguments::check(bool holds, const std::string& name, const char* problem) const {
  if (!holds) throw std::invalid_argument(operator_ + ": " + name + " " + problem);
}

const Argument& Arguments::find(const std::string& name) const {
  const auto at = values_.find(name);
  check(at != values_.end(), name, "is missing");
  read_.insert(name);
  return at->second;
}

void Arguments::all_read() const {
  for (const auto& [name, value] : values_)
    check(read_.count(name), name, "is no argument of this operator");
}

int Arguments::whole(const std::string& name, double value) const {
  check(value == std::floor(value) && std::abs(value) < 1u << 31, name, "is no integer of 32 bits");
  return int(value);
}

int Arguments::integer(const std::string& name) const {
  return whole(name, double(get<std::int64_t>(name)));
}

double Arguments::number(const std::string& name) const {
  const Argument& a = find(name);
  if (const auto* integer = std::get_if<std::int64_t>(&a)) return double(*integer);
  return get<double>(name);
}

std::vector<float> Arguments::singles(const std::string& name) const {
  const std::vector<double>& list = get<std::vector<double>>(name);
  return {list.begin(), list.end()};
}

bool finite(const std::vector<float>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(),
                     [](float v) { return std::isfinite(v) && v > 0; });
}

}  // namespace qb
