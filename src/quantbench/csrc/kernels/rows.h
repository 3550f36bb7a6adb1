// Operators without weights, in plain loops that the compiler vectorizes for the region this file
// is included in. Included by portable.cpp and by the table of each instruction set, inside its own
// namespace: no include guard on purpose. The enclosing file includes kernels.h, finish.h and
// <cstddef> first, outside of any region.

bool rows_quantize(const float* t, std::int64_t n, float scale, int zero, int lo, int hi,
                   std::uint8_t* y) {
  int bad = 0;
  for (std::int64_t i = 0; i < n; i++) {
    const float v = t[i];
    bad |= v != v;
    y[i] = quantize(v / scale, zero, lo, hi);
  }
  return !bad;
}

void rows_interleave(const std::uint8_t* x, std::int64_t plane, std::int64_t n, std::uint8_t* y) {
  const std::uint8_t *a = x, *b = x + plane, *c = b + plane;
  for (std::int64_t i = 0; i < n; i++) y[3 * i] = a[i], y[3 * i + 1] = b[i], y[3 * i + 2] = c[i];
}

void rows_lut(const std::uint8_t* x, std::int64_t n, const std::uint8_t* table, std::uint8_t* y) {
  for (std::int64_t i = 0; i < n; i++) y[i] = table[x[i]];
}

void rows_add(const std::uint8_t* a, const std::uint8_t* b, std::int64_t n, const AddTerms& k,
              std::uint8_t* y) {
  for (std::int64_t i = 0; i < n; i++) {
    const float s = float(int(a[i]) - k.a_zero) * k.a_ratio,
                t = float(int(b[i]) - k.b_zero) * k.b_ratio;
    y[i] = quantize(s + t, k.zero, k.lo, k.hi);
  }
}

// Rows and columns of the window of output o that lie inside the image.
struct Span {
  int first, last;
};
QB_INLINE Span inside(int o, int stride, int pad, int kernel, int size) {
  const int start = o * stride - pad;
  return {start > 0 ? start : 0, start + kernel < size ? start + kernel : size};
}

// Columns first, since rows are contiguous: one maximum over the window's rows, then over its
// columns.
void rows_max_pool(const PoolWindow& w, const View& x, const View& y, std::uint8_t* scratch) {
  const std::int64_t n = std::int64_t(w.w) * kBlock;
  for (int oy = 0; oy < w.oh; oy++) {
    const Span rows = inside(oy, w.sy, w.top, w.kh, w.h);
    const std::uint8_t* from = x.data + rows.first * x.row;
    __builtin_memcpy(scratch, from, std::size_t(n));
    for (int r = rows.first + 1; r < rows.last; r++) {
      from += x.row;
      for (std::int64_t i = 0; i < n; i++) scratch[i] = scratch[i] > from[i] ? scratch[i] : from[i];
    }
    std::uint8_t* out = y.data + oy * y.row;
    for (int ox = 0; ox < w.ow; ox++, out += kBlock) {
      const Span columns = inside(ox, w.sx, w.left, w.kw, w.w);
      std::uint8_t best[kBlock] = {};
      for (int c = columns.first; c < columns.last; c++)
        for (int i = 0; i < kBlock; i++) {
          const std::uint8_t v = scratch[c * std::int64_t(kBlock) + i];
          best[i] = best[i] > v ? best[i] : v;
        }
      __builtin_memcpy(out, best, kBlock);
    }
  }
}

void rows_avg_pool(const PoolWindow& w, const AvgTerms& k, const View& x, const View& y,
                   std::uint8_t* scratch) {
  const std::int64_t n = std::int64_t(w.w) * kBlock;
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(scratch);
  for (int oy = 0; oy < w.oh; oy++) {
    const Span rows = inside(oy, w.sy, w.top, w.kh, w.h);
    for (std::int64_t i = 0; i < n; i++) sums[i] = 0;
    for (int r = rows.first; r < rows.last; r++) {
      const std::uint8_t* from = x.data + r * x.row;
      for (std::int64_t i = 0; i < n; i++) sums[i] += from[i];
    }
    std::uint8_t* out = y.data + oy * y.row;
    for (int ox = 0; ox < w.ow; ox++, out += kBlock) {
      const Span columns = inside(ox, w.sx, w.left, w.kw, w.w);
      const int area = (rows.last > rows.first ? rows.last - rows.first : 0) *
                       (columns.last > columns.first ? columns.last - columns.first : 0);
      std::int32_t sum[kBlock];
      for (int i = 0; i < kBlock; i++) sum[i] = -k.x_zero * area;
      for (int c = columns.first; c < columns.last; c++)
        for (int i = 0; i < kBlock; i++) sum[i] += sums[c * std::int64_t(kBlock) + i];
      std::uint8_t codes[kBlock];
      const float m = k.multiplier[oy * std::int64_t(w.ow) + ox];
      for (int i = 0; i < kBlock; i++) codes[i] = quantize(float(sum[i]) * m, k.zero, k.lo, k.hi);
      __builtin_memcpy(out, codes, kBlock);
    }
  }
}

// The definition's code of distance d, from the sum of squares over the window.
QB_INLINE std::uint8_t lrn_code(const LrnTerms& k, int d, double sum) {
  const double low = k.lo - k.zero, high = k.hi - k.zero;
  const double shift = 6755399441055744.0;  // 1.5 * 2^52: rint
  const double u = k.k + k.alpha * sum;
  double t = double(d) * k.ratio / (__builtin_sqrt(u) * __builtin_sqrt(__builtin_sqrt(u)));
  t = t > low ? t : low;
  t = t < high ? t : high;
  return std::uint8_t(int((t + shift) - shift) + k.zero);
}

// Sums of squares are exact in binary64 far beyond any window.
[[maybe_unused]] void rows_lrn(const LrnTerms& k, const View& x, const View& y, int pixels,
                               std::uint8_t* scratch) {
  const int blocks = (k.channels + kBlock - 1) / kBlock, window = k.before + k.after + 1;
  // [before zeros][channels][zeros up to a whole block].
  double* squares = reinterpret_cast<double*>(scratch);
  const std::int64_t count = std::int64_t(blocks) * kBlock + window - 1;
  for (std::int64_t i = 0; i < count; i++) squares[i] = 0;
  for (int p = 0; p < pixels; p++) {
    for (int c = 0; c < k.channels; c++) {
      const int d = int(x.data[c / kBlock * x.plane + p * kBlock + c % kBlock]) - k.x_zero;
      squares[k.before + c] = double(d * d);
    }
    for (int b = 0; b < blocks; b++) {
      const std::uint8_t* from = x.data + b * x.plane + p * kBlock;
      double sum[kBlock] = {};
      for (int j = 0; j < window; j++)
        for (int i = 0; i < kBlock; i++) sum[i] += squares[b * kBlock + j + i];
      std::uint8_t codes[kBlock];
      for (int i = 0; i < kBlock; i++) codes[i] = lrn_code(k, int(from[i]) - k.x_zero, sum[i]);
      __builtin_memcpy(y.data + b * y.plane + p * kBlock, codes, kBlock);
    }
  }
}
