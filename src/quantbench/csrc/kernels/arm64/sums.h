// Sums of one block of 16 outputs, four to a register. Included by each set inside its namespace:
// no include guard on purpose.

constexpr int kParts = 4;               // registers of a block's sums, or of a step's weights
constexpr int kPart = kBlock / kParts;  // outputs of one of them

QB_INLINE Input load_four_steps(const std::uint8_t* x) { return shifted(vld1q_u8(x)); }

QB_INLINE Input load_step(const std::uint8_t* x) {
  std::uint32_t four;
  __builtin_memcpy(&four, x, sizeof four);
  return shifted(vreinterpretq_u8_u32(vdupq_n_u32(four)));
}

// What shifted inputs leave out of 16 sums: kShift times the sum of the weights. `weight`: 64 bytes
// for each of `steps`, `distance` apart.
QB_INLINE void give_back(std::int32_t* sums, const std::int8_t* weight, std::int64_t steps,
                         std::int64_t distance) {
  if (kShift == 0) return;
  for (int i = 0; i < kParts; i++) {
    int32x4_t sum = vdupq_n_s32(0);
    for (std::int64_t k = 0; k < steps; k++)
      sum = vdotq_s32(sum, vld1q_s8(weight + k * distance + 16 * i), vdupq_n_s8(1));
    vst1q_s32(sums + kPart * i, vmlaq_n_s32(vld1q_s32(sums + kPart * i), sum, kShift));
  }
}

// One pixel from its registers to codes or floats.
QB_INLINE void finish(const Requant& out, int channel, const int32x4_t* acc, const std::uint8_t* r,
                      std::uint8_t* y) {
  std::int32_t sums[kBlock];
  for (int i = 0; i < kParts; i++) vst1q_s32(sums + kPart * i, acc[i]);
  finish_pixel(out, channel, sums, r, y);
}
