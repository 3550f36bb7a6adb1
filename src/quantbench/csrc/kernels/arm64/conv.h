// Convolution: a tile is gone through four pixels of one block at a time, whatever its shape. Four
// steps of a pixel are one load, and a product takes its step from a lane of it. Included by each
// set inside its namespace: no include guard on purpose.

// acc += step Lane of P pixels with the weights of a block.
template <int P, int Lane>
QB_INLINE void multiply_step(int32x4_t (*acc)[kParts], const Input* x, const std::int8_t* weight) {
  QB_UNROLL for (int i = 0; i < kParts; i++) {
    const int8x16_t w = vld1q_s8(weight + 16 * i);
    QB_UNROLL for (int p = 0; p < P; p++)
      acc[p][i] = add_step<Lane>(acc[p][i], w, x[p]);
  }
}

struct Pixels {  // of one block, the first of some in a row
  const std::uint8_t *x, *r;
  std::uint8_t* y;
  std::int64_t r_pixel, y_pixel;
};

template <int P>
void tile(const ConvLayer& l, const Panel& panel, const Strip& strip, int b,
          const std::int32_t* start, const Pixels& at) {
  int32x4_t acc[P][kParts];
  QB_UNROLL for (int p = 0; p < P; p++) QB_UNROLL
    for (int i = 0; i < kParts; i++) acc[p][i] = vld1q_s32(start + kPart * i);
  const std::int64_t step = std::int64_t(strip.blocks) * 64;
  const std::int8_t* weight = strip.weight + b * 64;
  const std::int32_t* offset = panel.offset;
  Input x[P];
  for (int k = 0; k < panel.quads; k++, weight += 4 * step, offset++) {
    QB_UNROLL for (int p = 0; p < P; p++)
      x[p] = load_four_steps(at.x + *offset + p * l.x_step);
    multiply_step<P, 0>(acc, x, weight);
    multiply_step<P, 1>(acc, x, weight + step);
    multiply_step<P, 2>(acc, x, weight + 2 * step);
    multiply_step<P, 3>(acc, x, weight + 3 * step);
  }
  for (int k = 0; k < panel.singles; k++, weight += step, offset++) {
    QB_UNROLL for (int p = 0; p < P; p++)
      x[p] = load_step(at.x + *offset + p * l.x_step);
    multiply_step<P, 0>(acc, x, weight);
  }
  for (int p = 0; p < P; p++)
    finish(l.out, (strip.block + b) * kBlock, acc[p], at.r + p * at.r_pixel, at.y + p * at.y_pixel);
}

// Pixels x..x + pixels - 1 of a row of one block.
void run(const ConvLayer& l, const ConvCall& call, int b, const std::int32_t* start,
         std::int64_t row, int x, int pixels) {
  const Strip& strip = l.strips[call.strip];
  const Panel& panel = l.panels[strip.panel];
  const int block = strip.block + b;
  for (int end = x + pixels; x < end;) {
    Pixels at{call.x.data + row * l.y_step + x * l.x_step, nullptr,
              call.y.data + block * call.y.plane + row * call.y.row + x * call.y.pixel, 0,
              call.y.pixel};
    at.r = at.x;  // anything that may be pointed at
    if (l.out.residual) {
      at.r = call.r.data + block * call.r.plane + row * call.r.row + x * call.r.pixel;
      at.r_pixel = call.r.pixel;
    }
    switch (end - x) {
      case 1:
        return tile<1>(l, panel, strip, b, start, at);
      case 2:
        return tile<2>(l, panel, strip, b, start, at);
      case 3:
        return tile<3>(l, panel, strip, b, start, at);
    }
    tile<4>(l, panel, strip, b, start, at);
    x += 4;
  }
}

// Strips by columns (layer.h) have their weights in another order; they would save nothing here.
bool conv_fits(const ConvLayer& l) {
  for (int i = 0; i < l.strip_count; i++)
    if (l.strips[i].columns) return false;
  return true;
}

void conv(const ConvLayer& l, const ConvCall& call) {
  const Strip& strip = l.strips[call.strip];
  const int count = l.tile_count[strip.cut()], steps = l.panels[strip.panel].steps();
  std::int32_t start[kStripBlocks * kBlock];
  for (int b = 0; b < strip.blocks; b++) {
    __builtin_memcpy(start + b * kBlock, l.bias + (strip.block + b) * kBlock, 4 * kBlock);
    give_back(start + b * kBlock, strip.weight + b * 64, steps, std::int64_t(strip.blocks) * 64);
  }
  for (std::int64_t i = call.first; i < call.last; i++) {
    const Tile& at = l.tiles[strip.cut()][i % count];
    for (int b = 0; b < strip.blocks; b++)
      run(l, call, b, start + b * kBlock, i / count, at.x, at.pixels);
  }
}
