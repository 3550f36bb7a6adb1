// Linear layers: weights of 4 and 2 bits stay packed in memory and become bytes in registers,
// through a table of their levels. Included by each set inside its namespace: no include guard on
// purpose.

// Bits of the `part`-th step of a packed register, as weights.
template <int Bits>
QB_INLINE int8x16_t unpacked(uint8x16_t packed, int part, int8x16_t levels) {
  if (Bits == 8) return vreinterpretq_s8_u8(packed);
  const int8x16_t down = vdupq_n_s8(std::int8_t(-part * Bits));
  return vqtbl1q_s8(levels, vandq_u8(vshlq_u8(packed, down), vdupq_n_u8((1 << Bits) - 1)));
}

struct LinearCall {
  const LinearLayer& l;
  const std::uint8_t* weight;  // of the first block
  int channel, blocks;  // blocks of the whole group, from which the weights' distance follows
  const std::uint8_t* x;
  std::int64_t x_image;
  std::uint8_t* y;
  std::int64_t y_image;
};

// What no input changes is summed up beside the products: see give_back.
template <int M, int Bits>
void images(const LinearCall& call) {
  const LinearLayer& l = call.l;
  constexpr int per_byte = 8 / Bits;
  int32x4_t acc[M][kParts], weights[kParts];
  QB_UNROLL for (int i = 0; i < kParts; i++) {
    weights[i] = vdupq_n_s32(0);
    QB_UNROLL for (int m = 0; m < M; m++)
      acc[m][i] = vld1q_s32(l.bias + call.channel + kPart * i);
  }
  const int8x16_t levels = Bits == 8 ? vdupq_n_s8(0) : vld1q_s8(l.levels);
  const std::uint8_t* packed = call.weight;
  for (std::int64_t k = 0; k < l.steps; k += per_byte, packed += call.blocks * 64) QB_UNROLL
    for (int part = 0; part < per_byte; part++) {
      Input x[M];
      QB_UNROLL for (int m = 0; m < M; m++)
        x[m] = load_step(call.x + m * call.x_image + (k + part) * kStep);
      QB_UNROLL for (int i = 0; i < kParts; i++) {
        const int8x16_t w = unpacked<Bits>(vld1q_u8(packed + 16 * i), part, levels);
        if (kShift) weights[i] = vdotq_s32(weights[i], w, vdupq_n_s8(1));
        QB_UNROLL for (int m = 0; m < M; m++)
          acc[m][i] = add_step<0>(acc[m][i], w, x[m]);
      }
    }
  for (int m = 0; m < M; m++) {
    std::int32_t sum = 0;
    for (int i = 0; l.weight_zero && i < l.inputs; i++) sum += call.x[m * call.x_image + i];
    for (int i = 0; i < kParts; i++) {
      acc[m][i] = vmlaq_n_s32(acc[m][i], weights[i], kShift);
      if (l.weight_zero)
        acc[m][i] =
            vmlsq_n_s32(acc[m][i], vld1q_s32(l.weight_zero + call.channel + kPart * i), sum);
    }
    finish(l.out, call.channel, acc[m], nullptr, call.y + m * call.y_image);
  }
}

template <int Bits>
void block(LinearCall call, int count) {
  for (; count >= 4; count -= 4, call.x += 4 * call.x_image, call.y += 4 * call.y_image)
    images<4, Bits>(call);
  for (; count > 0; count--, call.x += call.x_image, call.y += call.y_image) images<1, Bits>(call);
}

void linear(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
            std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t*) {
  const int blocks = l.blocks - 4 * group < 4 ? l.blocks - 4 * group : 4;
  const std::uint8_t* weight = l.weight + std::int64_t(group) * 4 * (l.steps / (8 / l.bits)) * 64;
  for (int b = 0; b < blocks; b++) {
    const int channel = (4 * group + b) * kBlock;
    const LinearCall call{
        l,      weight + b * 64, channel, blocks, x, x_image, y + channel * (l.out.floats ? 4 : 1),
        y_image};
    if (l.bits == 8)
      block<8>(call, images);
    else if (l.bits == 4)
      block<4>(call, images);
    else
      block<2>(call, images);
  }
}
