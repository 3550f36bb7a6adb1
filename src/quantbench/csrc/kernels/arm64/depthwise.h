// Depthwise convolution: the four bytes of a product are four rows of the filter's window. Rows of
// a block are first interleaved into scratch, 16 channels x 4 rows a pixel, so that every filter
// column is one product for each channel. Included by each set inside its namespace: no include
// guard on purpose.

// `columns` pixels of four rows to [column][16 channels][4 rows].
QB_INLINE void interleave(const std::uint8_t* const* rows, std::int64_t columns, std::uint8_t* to) {
  for (std::int64_t x = 0; x < columns * kBlock; x += kBlock, to += 64) {
    uint8x16x4_t four;
    for (int i = 0; i < 4; i++) four.val[i] = vld1q_u8(rows[i] + x);
    vst4q_u8(to, four);
  }
}

// P outputs of a row. `from`: the interleaved columns of the first, `group` bytes from one group of
// filter rows to the next.
template <int P>
void outputs(const DepthwiseLayer& l, int channel, const std::int8_t* weight,
             const std::int32_t* start, const std::uint8_t* from, std::int64_t group,
             std::uint8_t* y) {
  int32x4_t acc[P][kParts];
  QB_UNROLL for (int p = 0; p < P; p++) QB_UNROLL
    for (int i = 0; i < kParts; i++) acc[p][i] = vld1q_s32(start + kPart * i);
  for (int g = 0; g < l.groups; g++)
    for (int k = 0; k < l.kw; k++, weight += 64) {
      const std::uint8_t* at = from + g * group + std::int64_t(k) * l.dx * 64;
      QB_UNROLL for (int i = 0; i < kParts; i++) {
        const int8x16_t w = vld1q_s8(weight + 16 * i);
        QB_UNROLL for (int p = 0; p < P; p++) {
          const Input x = load_four_steps(at + std::int64_t(p) * l.sx * 64 + 16 * i);
          acc[p][i] = add_products(acc[p][i], w, x);
        }
      }
    }
  for (int p = 0; p < P; p++) finish(l.out, channel, acc[p], nullptr, y + p * kBlock);
}

void depthwise(const DepthwiseLayer& l, const View& x, const View& y, int block, int first,
               int last, std::uint8_t* scratch) {
  const std::int64_t filter = std::int64_t(l.groups) * l.kw;  // in steps
  const std::int8_t* weight = l.weight + block * filter * 64;
  const std::int64_t columns = depthwise_columns(l), group = depthwise_group(l);
  std::int32_t start[kBlock];
  __builtin_memcpy(start, l.bias + block * kBlock, sizeof start);
  give_back(start, weight, filter, 64);
  for (int oy = first; oy < last; oy++) {
    const std::uint8_t* top = x.data + block * x.plane + oy * l.sy;
    for (int g = 0; g < l.groups; g++) {
      const std::uint8_t* rows[4];  // weights below the filter are 0, whatever row they meet
      for (int i = 0; i < 4; i++) rows[i] = top + (4 * g + i < l.kh ? 4 * g + i : 4 * g) * l.dy;
      interleave(rows, columns, scratch + g * group);
    }
    std::uint8_t* to = y.data + block * y.plane + oy * y.row;
    int ox = 0;
    const std::int64_t apart = std::int64_t(l.sx) * 64;
    for (; ox + 4 <= l.ow; ox += 4)
      outputs<4>(l, block * kBlock, weight, start, scratch + ox * apart, group, to + ox * kBlock);
    for (; ox < l.ow; ox++)
      outputs<1>(l, block * kBlock, weight, start, scratch + ox * apart, group, to + ox * kBlock);
  }
}
