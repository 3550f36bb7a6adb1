// What a program says about one operator, by name: numbers, lists, arrays. Types and lengths are
// checked on reading.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "operators/tensor.h"

namespace qb {

// An array of the caller, in C order, borrowed until the operator is made.
template <typename T>
struct Values {
  const T* data;
  std::vector<std::int64_t> shape;

  std::int64_t size() const {
    std::int64_t n = 1;
    for (std::int64_t s : shape) n *= s;
    return n;
  }
};

// Codes (images, c, h, w) in C order.
struct Codes {
  std::uint8_t* data;
  std::array<int, 4> shape;

  std::int64_t size() const { return std::int64_t(shape[0]) * shape[1] * shape[2] * shape[3]; }
};

// What runs elsewhere: codes of each input in, codes of the output out.
using Foreign = std::function<void(const std::vector<Codes>& x, const Codes& y)>;

using Argument = std::variant<std::int64_t, double, std::vector<double>, Values<std::int8_t>,
                              Values<std::int16_t>, Values<std::int32_t>, Values<std::uint8_t>,
                              Values<float>, Foreign>;

// Every reader throws std::invalid_argument for an argument that is missing, or of another type or
// length.
class Arguments {
 public:
  Arguments(std::string operator_name, std::vector<int> inputs,
            std::map<std::string, Argument> values)
      : operator_(std::move(operator_name)),
        inputs_(std::move(inputs)),
        values_(std::move(values)) {}

  // Numbers of tensors.
  const std::vector<int>& all_inputs() const { return inputs_; }
  template <std::size_t N>
  std::array<int, N> inputs() const {
    check(inputs_.size() == N, "inputs", "of another number");
    std::array<int, N> found;
    for (std::size_t i = 0; i < N; i++) found[i] = inputs_[i];
    return found;
  }
  int input() const { return inputs<1>()[0]; }

  bool has(const std::string& name) const { return values_.count(name) > 0; }
  int integer(const std::string& name) const;
  double number(const std::string& name) const;
  float single(const std::string& name) const { return float(number(name)); }
  std::vector<float> singles(const std::string& name) const;
  template <std::size_t N>
  std::array<int, N> integers(const std::string& name) const {
    const std::vector<double>& list = get<std::vector<double>>(name);
    check(list.size() == N, name, "of a wrong length");
    std::array<int, N> found;
    for (std::size_t i = 0; i < N; i++) found[i] = whole(name, list[i]);
    return found;
  }
  template <typename T>
  const Values<T>& values(const std::string& name) const {
    return get<Values<T>>(name);
  }
  template <typename T>
  std::vector<T> array(const std::string& name, std::int64_t size) const {
    const Values<T>& a = values<T>(name);
    check(a.size() == size, name, "of a wrong length");
    return {a.data, a.data + size};
  }
  Foreign foreign(const std::string& name) const { return get<Foreign>(name); }

  // A tensor of codes of this shape, with the arguments zero, lo and hi.
  Tensor output(int c, int h, int w) const {
    return tensor({c, h, w}, integer("zero"), integer("lo"), integer("hi"));
  }

  // Every argument has to be one that the operator knows.
  void all_read() const;

 private:
  template <typename T>
  const T& get(const std::string& name) const {
    const T* found = std::get_if<T>(&find(name));
    check(found != nullptr, name, "of a wrong type");
    return *found;
  }
  const Argument& find(const std::string& name) const;
  int whole(const std::string& name, double value) const;
  void check(bool holds, const std::string& name, const char* problem) const;

  std::string operator_;
  std::vector<int> inputs_;
  std::map<std::string, Argument> values_;
  mutable std::set<std::string> read_;
};

// Whether all numbers are positive and finite, as multipliers have to be.
bool finite(const std::vector<float>& numbers);

}  // namespace qb
