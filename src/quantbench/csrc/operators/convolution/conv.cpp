// A convolution from its arguments, and which form computes it.
#include <algorithm>
#include <cstdlib>

#include "base/checks.h"
#include "operators/convolution/spec.h"
#include "operators/registry.h"
#include "operators/window.h"

namespace qb {
namespace {

bool fits_int8(const ConvSpec& s) {
  const std::int64_t window = std::int64_t(s.ic) * s.kh * s.kw;
  for (std::int64_t i = 0; i < std::int64_t(s.weight.size()); i++) {
    const int v = s.weight[i] - s.weight_zero[i / window];
    if (v < -128 || v > 127) return false;
  }
  return true;
}

std::unique_ptr<Op> fastest(ConvSpec s, const Graph& graph) {
  const std::vector<Tensor>& t = graph.tensors;
  const Tensor &x = t[s.x], &y = t[s.y];
  const bool one_pixel = x.h == 1 && x.w == 1 && y.h == 1 && y.w == 1;
  const bool vector =
      one_pixel && s.kh == 1 && s.kw == 1 && s.top == 0 && s.left == 0 && s.groups == 1;
  if (vector && s.r < 0) return make_linear(std::move(s));
  if (s.groups == x.c && s.ic == 1 && s.oc == x.c && s.r < 0 && !y.floats && fits_int8(s))
    return make_depthwise(std::move(s));
  const ConvModel& model = graph.kernels->model;
  if (graph.kernels->winograd && graph.winograd != Choice::never) {
    WinogradForm form = winograd_form(s, t, model);
    if (form.width && (graph.winograd == Choice::always || winograd_pays(s, t, model, form)))
      return make_winograd(std::move(s), std::move(form));
  }
  return make_direct(std::move(s));
}

void read_weights(const Arguments& args, const Tensor& in, ConvSpec& s) {
  const Values<std::int8_t>& weight = args.values<std::int8_t>("weight");
  require(weight.shape.size() == 4, "a weight that is not (O, I, kh, kw)");
  for (std::int64_t n : weight.shape)
    require(1 <= n && n <= kLargest, "a weight size outside of 1..65536");
  s.oc = int(weight.shape[0]), s.ic = int(weight.shape[1]);
  s.kh = int(weight.shape[2]), s.kw = int(weight.shape[3]);
  s.groups = args.integer("groups");
  require(1 <= s.groups && s.oc % s.groups == 0 && std::int64_t(s.ic) * s.groups == in.c,
          "groups that do not fit");
  s.weight = args.array<std::int8_t>("weight", weight.size());
  s.weight_zero = args.array<std::int16_t>("weight_zero", s.oc);
  for (int z : s.weight_zero)
    require(std::abs(z) <= 255, "a weight zero point outside of -255..255");
  s.bias = args.array<std::int32_t>("bias", s.oc);
  s.m = args.array<float>("m", s.oc);
  require(finite(s.m), "a multiplier that is not positive and finite");
}

// The output: codes with bounds for each channel, or floats where there are none.
Tensor read_output(const Arguments& args, const Window& w, const Tensor& in, ConvSpec& s) {
  const int oh = w.outputs(0, in.h), ow = w.outputs(1, in.w), zero = args.integer("zero");
  require(args.has("lo") == args.has("hi"), "lo without hi");
  if (!args.has("lo")) {
    Tensor y = tensor({s.oc, oh, ow}, zero, 0, 255);
    y.floats = true;
    return y;
  }
  s.lo = args.array<std::uint8_t>("lo", s.oc), s.hi = args.array<std::uint8_t>("hi", s.oc);
  for (int o = 0; o < s.oc; o++) require(s.lo[o] <= s.hi[o], "lo above hi");
  return tensor({s.oc, oh, ow}, zero, *std::min_element(s.lo.begin(), s.lo.end()),
                *std::max_element(s.hi.begin(), s.hi.end()));
}

}  // namespace

// Inputs: the images, and what is added to them, if anything.
int make_conv(const Arguments& args, Graph& graph) {
  const std::vector<int>& inputs = args.all_inputs();
  require(inputs.size() == 1 || inputs.size() == 2,
          "a convolution has one input, or two with a residual");
  ConvSpec s{};
  s.x = inputs[0], s.r = inputs.size() == 2 ? inputs[1] : -1;
  const Tensor in = graph.codes(s.x);
  read_weights(args, in, s);
  const Window w{.kernel = {s.kh, s.kw},
                 .stride = args.integers<2>("stride"),
                 .pads = args.integers<4>("pads"),
                 .dilation = args.integers<2>("dilation")};
  check(w, in);
  s.sy = w.stride[0], s.sx = w.stride[1], s.dy = w.dilation[0], s.dx = w.dilation[1];
  s.top = w.pads[0], s.left = w.pads[1], s.bottom = w.pads[2], s.right = w.pads[3];
  const Tensor y = read_output(args, w, in, s);
  require(accumulator_bound(s, in) < std::int64_t(1) << 31, "an accumulator could leave int32");
  s.ratio = args.single("ratio");
  if (s.r >= 0) {
    require(!y.floats && graph.codes(s.r).same_shape(y), "a residual of another shape");
    require(finite({s.ratio}), "a ratio that is not positive and finite");
  }
  s.y = graph.add_tensor(y);
  return graph.add(fastest(std::move(s), graph));
}

}  // namespace qb
