// Random layers on every instruction set of the machine that runs this, against the portable
// kernels: every byte of every output. Without Python, so that it runs under an emulator of another
// processor: random_layers LAYERS [SET...], which fails where one of the sets is missing.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/dispatch.h"
#include "network/net.h"
#include "operators/registry.h"

namespace {

using qb::Argument;
using qb::Arguments;
using qb::Graph;
using qb::Values;

class Draw {
 public:
  explicit Draw(unsigned seed) : engine_(seed) {}
  int between(int low, int high) {  // both included
    return low + int(engine_() % unsigned(high - low + 1));
  }
  bool one_in(int n) { return between(1, n) == 1; }
  int of(std::vector<int> choices) { return choices[between(0, int(choices.size()) - 1)]; }
  double real(double low, double high) { return low + (high - low) * engine_() / 4294967296.0; }

 private:
  std::mt19937 engine_;
};

// A convolution's arrays, which live until the operator is made.
struct Filter {
  std::vector<std::int8_t> weight;
  std::vector<std::int16_t> zero;
  std::vector<std::int32_t> bias;
  std::vector<float> m;
  std::vector<std::uint8_t> lo, hi;
};

// Weights of few levels now and then: a linear layer packs those into 4 or 2 bits.
Filter filter(Draw& draw, int outputs, int window) {
  Filter f;
  const int levels = draw.of({2, 4, 15, 255}), step = std::max(1, 254 / levels);
  for (int i = 0; i < outputs * window; i++)
    f.weight.push_back(std::int8_t(std::min(127, -128 + step * draw.between(0, levels))));
  const bool zeros = draw.one_in(4), narrow = draw.one_in(2);
  const double scale = 50 / (75.0 * 150 * std::sqrt(double(window)));
  for (int o = 0; o < outputs; o++) {
    f.zero.push_back(std::int16_t(zeros ? draw.between(-5, 5) : 0));
    f.bias.push_back(draw.between(-20000, 20000));
    f.m.push_back(float(scale * draw.real(0.3, 3)));
    const int a = narrow ? draw.between(0, 255) : 0, b = narrow ? draw.between(0, 255) : 255;
    f.lo.push_back(std::uint8_t(std::min(a, b))), f.hi.push_back(std::uint8_t(std::max(a, b)));
  }
  return f;
}

struct Geometry {
  int oc, ic, kernel, groups, stride, dilation, pad;  // ic: per group
  bool residual, floats;
};

void add_conv(Graph& graph, Draw& draw, int x, const Geometry& g) {
  const std::int64_t oc = g.oc, ic = g.ic, kernel = g.kernel;
  const Filter f = filter(draw, g.oc, g.ic * g.kernel * g.kernel);
  const auto pair = [](double a) { return std::vector<double>{a, a}; };
  std::map<std::string, Argument> said{
      {"weight", Values<std::int8_t>{f.weight.data(), {oc, ic, kernel, kernel}}},
      {"weight_zero", Values<std::int16_t>{f.zero.data(), {oc}}},
      {"bias", Values<std::int32_t>{f.bias.data(), {oc}}},
      {"m", Values<float>{f.m.data(), {oc}}},
      {"ratio", draw.real(0.2, 2)},
      {"stride", pair(g.stride)},
      {"dilation", pair(g.dilation)},
      {"pads", std::vector<double>(4, g.pad)},
      {"groups", std::int64_t(g.groups)},
      {"zero", std::int64_t(g.floats ? 0 : draw.between(0, 255))},
  };
  if (!g.floats) {
    said.emplace("lo", Values<std::uint8_t>{f.lo.data(), {oc}});
    said.emplace("hi", Values<std::uint8_t>{f.hi.data(), {oc}});
  }
  std::vector<int> inputs{x};
  if (g.residual) inputs.push_back(x);
  add_operator("conv", Arguments("conv", inputs, std::move(said)), graph);
}

void add_max_pool(Graph& graph, int x) {
  std::map<std::string, Argument> said{{"kernel", std::vector<double>{3, 3}},
                                       {"stride", std::vector<double>{2, 2}},
                                       {"pads", std::vector<double>(4, 1)}};
  add_operator("max_pool", Arguments("max_pool", {x}, std::move(said)), graph);
}

void add_sum(Graph& graph, Draw& draw, int x) {
  std::map<std::string, Argument> said{{"a_ratio", draw.real(0.2, 2)},
                                       {"b_ratio", draw.real(0.2, 2)},
                                       {"zero", std::int64_t(draw.between(0, 255))},
                                       {"lo", std::int64_t(3)},
                                       {"hi", std::int64_t(250)}};
  add_operator("add", Arguments("add", {x, x}, std::move(said)), graph);
}

// One to three operators; every kind of layer that has kernels of its own comes first at times.
Graph network(Draw draw, const char* isa) {
  Graph graph;
  const int kind = draw.between(0, 4);  // dense, grouped, depthwise, linear, of the image
  const int groups = draw.of({2, 3, 4}), dense = draw.of({1, 3, 8, 16, 20, 33, 48, 80});
  const int c = kind == 4 ? 3 : kind == 1 ? groups * draw.of({1, 3, 8, 16}) : dense;
  const int h = kind == 3 ? 1 : draw.between(1, 14), w = kind == 3 ? 1 : draw.between(1, 40);
  const int top = draw.of({255, 255, 15, 100});
  graph.add_tensor(qb::tensor({c, h, w}, draw.between(0, top), 0, top));
  graph.scale = 0.02f, graph.kernels = &qb::choose_kernels(isa), graph.winograd = qb::Choice::never;
  Geometry g{draw.of({1, 5, 16, 24, 48, 64, 100}), c, 1, 1, 1, 1, 0, false, draw.one_in(8)};
  if (kind != 3) {
    g.kernel = draw.of({1, 2, 3, 3, 5}), g.pad = draw.between(g.kernel / 2, g.kernel / 2 + 1);
    g.stride = draw.of({1, 1, 2, 3}), g.dilation = draw.of({1, 1, 1, 2});
    if (g.dilation == 2) g.pad += g.kernel;
    if (kind == 1) g.groups = groups, g.ic = c / groups, g.oc = groups * draw.of({1, 4, 16, 32});
    if (kind == 2) g.groups = g.oc = c, g.ic = 1, g.floats = false;
    if (kind == 0 && draw.one_in(2))  // a residual block's second layer
      g = {c, c, draw.of({1, 3}), 1, 1, 1, 0, true, false}, g.pad = g.kernel / 2;
  }
  add_conv(graph, draw, 0, g);
  if (g.floats) return graph;
  const int y = graph.tensor_count() - 1;
  if (draw.one_in(3)) add_sum(graph, draw, y);
  if (draw.one_in(3)) add_max_pool(graph, graph.tensor_count() - 1);
  return graph;
}

std::vector<std::uint8_t> outputs(unsigned seed, const char* isa) {
  Graph graph = network(Draw(seed), isa);
  qb::Options options;
  options.threads = 1 + int(seed % 2), options.worth = 0;
  qb::Net net(std::move(graph), options);
  Draw draw(~seed);
  const int images = draw.of({1, 2, 5, 6});
  std::vector<std::uint8_t> codes(std::size_t(images * net.input().codes()));
  for (auto& code : codes) code = std::uint8_t(draw.between(0, net.input().hi));
  std::vector<std::uint8_t> out(std::size_t(images * net.output().result_bytes()));
  net.run(codes.data(), false, images, out.data(), nullptr);
  return out;
}

int wrong(const std::string& isa, unsigned layers) {
  std::size_t bytes = 0;
  for (unsigned seed = 0; seed < layers; seed++) {
    const auto expected = outputs(seed, "portable"), found = outputs(seed, isa.c_str());
    bytes += expected.size();
    if (found == expected) continue;
    std::printf("layer %u on %s differs from the portable kernels\n", seed, isa.c_str());
    return 1;
  }
  std::printf("%u layers on %s: all %zu bytes equal the portable kernels'\n", layers, isa.c_str(),
              bytes);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const unsigned layers = count > 1 ? unsigned(std::atoi(arguments[1])) : 200;
  std::vector<std::string> sets = qb::instruction_sets();
  for (int i = 2; i < count; i++)
    if (std::find(sets.begin(), sets.end(), arguments[i]) == sets.end()) {
      std::printf("this processor has no %s\n", arguments[i]);
      return 1;
    }
  int failed = 0;
  for (const std::string& isa : sets)
    if (isa != "portable") failed |= wrong(isa, layers);
  std::printf("sets here:");
  for (const std::string& isa : sets) std::printf(" %s", isa.c_str());
  std::printf("\n");
  return failed;
}
