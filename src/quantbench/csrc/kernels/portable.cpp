// Kernels in plain C++: what every machine runs, and what the others fall back to for layers they
// have no code for.
#include <cstddef>

#include "kernels/finish.h"
#include "kernels/kernels.h"

namespace qb {
namespace {

#include "kernels/rows.h"

// acc += x . w over four inputs, for 16 outputs; unsigned, since only the final sum has to fit.
QB_INLINE void step(std::uint32_t* acc, const std::uint8_t* x, const std::int8_t* w) {
  for (int o = 0; o < kBlock; o++)
    acc[o] += std::uint32_t(x[0] * w[4 * o] + x[1] * w[4 * o + 1] + x[2] * w[4 * o + 2] +
                            x[3] * w[4 * o + 3]);
}

bool conv_fits(const ConvLayer&) { return true; }

void conv(const ConvLayer& l, const ConvCall& call) {
  const Strip& strip = l.strips[call.strip];
  const Panel& panel = l.panels[strip.panel];
  const int count = l.tile_count[strip.cut()];
  for (std::int64_t i = call.first; i < call.last; i++) {
    const Tile& tile = l.tiles[strip.cut()][i % count];
    const std::int64_t row = i / count;
    for (int b = 0; b < strip.blocks; b++) {
      const int block = strip.block + b;
      for (int p = tile.x; p < tile.x + tile.pixels; p++) {
        const std::uint8_t* x = call.x.data + row * l.y_step + p * l.x_step;
        std::uint32_t acc[kBlock];
        __builtin_memcpy(acc, l.bias + block * kBlock, sizeof acc);
        for (int k = 0; k < panel.steps(); k++)
          step(acc, x + strip.step_offset(panel, k),
               strip.weight + (std::int64_t(k) * strip.blocks + b) * 64);
        std::int32_t sums[kBlock];
        __builtin_memcpy(sums, acc, sizeof sums);
        const std::uint8_t* r = l.out.residual ? call.r.data + block * call.r.plane +
                                                     row * call.r.row + p * call.r.pixel
                                               : nullptr;
        finish_pixel(l.out, block * kBlock, sums, r,
                     call.y.data + block * call.y.plane + row * call.y.row + p * call.y.pixel);
      }
    }
  }
}

void depthwise(const DepthwiseLayer& l, const View& x, const View& y, int block, int first,
               int last, std::uint8_t*) {
  const std::int8_t* weight = l.weight + std::int64_t(block) * l.groups * l.kw * 64;
  for (int oy = first; oy < last; oy++)
    for (int ox = 0; ox < l.ow; ox++) {
      const std::uint8_t* from =
          x.data + block * x.plane + oy * l.sy + std::int64_t(ox) * l.sx * kBlock;
      std::int32_t acc[kBlock];
      __builtin_memcpy(acc, l.bias + block * kBlock, sizeof acc);
      for (int ky = 0; ky < l.kh; ky++)
        for (int kx = 0; kx < l.kw; kx++) {
          const std::uint8_t* taps = from + ky * l.dy + std::int64_t(kx) * l.dx * kBlock;
          const std::int8_t* w = weight + (std::int64_t(ky / 4) * l.kw + kx) * 64 + ky % 4;
          for (int c = 0; c < kBlock; c++)
            acc[c] = int(unsigned(acc[c]) + unsigned(taps[c] * w[4 * c]));
        }
      finish_pixel(l.out, block * kBlock, acc, nullptr,
                   y.data + block * y.plane + oy * y.row + std::int64_t(ox) * kBlock);
    }
}

// 16 outputs x 4 inputs of one step, unpacked.
QB_INLINE void unpack(const LinearLayer& l, const std::uint8_t* packed, int k, std::int8_t* w) {
  const int per_byte = 8 / l.bits, shift = k % per_byte * l.bits, mask = (1 << l.bits) - 1;
  for (int i = 0; i < 64; i++)
    w[i] = l.bits == 8 ? std::int8_t(packed[i]) : l.levels[packed[i] >> shift & mask];
}

void linear(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
            std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t*) {
  const int blocks = l.blocks - 4 * group < 4 ? l.blocks - 4 * group : 4, per_byte = 8 / l.bits;
  const std::uint8_t* weight = l.weight + std::int64_t(group) * 4 * (l.steps / per_byte) * 64;
  for (int n = 0; n < images; n++, x += x_image, y += y_image) {
    std::uint32_t sum = 0;
    if (l.weight_zero)
      for (int i = 0; i < l.inputs; i++) sum += x[i];
    for (int b = 0; b < blocks; b++) {
      const int channel = (4 * group + b) * kBlock;
      std::uint32_t acc[kBlock];
      __builtin_memcpy(acc, l.bias + channel, sizeof acc);
      for (int k = 0; k < l.steps; k++) {
        std::int8_t w[64];
        unpack(l, weight + (std::int64_t(k / per_byte) * blocks + b) * 64, k, w);
        step(acc, x + k * kStep, w);
      }
      for (int o = 0; l.weight_zero && o < kBlock; o++)
        acc[o] -= std::uint32_t(l.weight_zero[channel + o]) * sum;
      std::int32_t sums[kBlock];
      __builtin_memcpy(sums, acc, sizeof sums);
      finish_pixel(l.out, channel, sums, nullptr, y + channel * (l.out.floats ? 4 : 1));
    }
  }
}

std::int64_t multiply(std::int64_t rounds) {
  std::uint8_t x[4] = {1, 2, 3, 4};
  std::int8_t w[4 * kBlock] = {};
  std::uint32_t acc[kBlock] = {};
  volatile std::uint32_t sink = 0;
  for (std::int64_t r = 0; r < rounds; r++) {
    x[0] = std::uint8_t(r);
    step(acc, x, w);
    sink = acc[0];
  }
  (void)sink;
  return rounds * 4 * kBlock;
}

}  // namespace

const Kernels kPortable = {
    .name = "portable",
    .model = kAnyTile,
    .conv_fits = conv_fits,
    .conv = conv,
    .winograd = nullptr,
    .depthwise = depthwise,
    .linear = linear,
    .quantize = rows_quantize,
    .interleave = rows_interleave,
    .lut = rows_lut,
    .add = rows_add,
    .max_pool = rows_max_pool,
    .avg_pool = rows_avg_pool,
    .lrn = rows_lrn,
    .multiply = multiply,
};

const Kernels* portable_kernels() { return &kPortable; }

}  // namespace qb
