// Local response normalization on AVX2, eight channels at a time in binary32 where that is certain
// to give the definition's code, which is of binary64. Included by this set's kernels inside of its
// own region and namespace, behind rows.h.
//
// With e = 2^-24, half a last place: k, alpha and the ratio are rounded (e each), squares add up
// exactly below 2^24, and every operation adds its e. u = k + alpha * sum is off by 3 e of itself
// at most, since both terms are positive; sqrt(u) by 2.5, sqrt(sqrt(u)) by 2.25, their product by
// 5.75, d * ratio by 2, and the quotient t by 8.75, second-order terms and binary64's own included
// by 10 e |t|. Of |t| <= 256 that is less than 2^-12: where t is farther than that from halves both
// round alike, and beyond a bound both become the bound. One block in two hundred is not certain,
// and is done again in binary64.

constexpr float kCertain = 0.5f - 0x1p-12f;

bool moderate(double v) { return v >= 0x1p-40 && v <= 0x1p40; }  // nothing leaves binary32

bool lrn_fits(const LrnTerms& k) {
  const int window = k.before + k.after + 1;
  return window <= 256 && moderate(k.k) && (k.alpha == 0 || moderate(k.alpha)) && moderate(k.ratio);
}

// t of eight channels: distances from the zero point, and the sums of their squares.
QB_INLINE __m256 lrn_eight(const LrnTerms& k, __m256i d, __m256i sum) {
  const __m256 u =
      _mm256_add_ps(_mm256_set1_ps(float(k.k)),
                    _mm256_mul_ps(_mm256_set1_ps(float(k.alpha)), _mm256_cvtepi32_ps(sum)));
  const __m256 root = _mm256_sqrt_ps(u);
  const __m256 t =
      _mm256_div_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(d), _mm256_set1_ps(float(k.ratio))),
                    _mm256_mul_ps(root, _mm256_sqrt_ps(root)));
  return _mm256_min_ps(_mm256_max_ps(t, _mm256_set1_ps(float(k.lo - k.zero))),
                       _mm256_set1_ps(float(k.hi - k.zero)));
}

QB_INLINE __m256i distances(const LrnTerms& k, const std::uint8_t* x) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
  return _mm256_sub_epi32(_mm256_cvtepu8_epi32(eight), _mm256_set1_epi32(k.x_zero));
}

// One pixel of one block; squares: of the window of its first channel.
QB_INLINE void lrn_block(const LrnTerms& k, const std::uint8_t* x, const std::int32_t* squares,
                         std::uint8_t* y) {
  std::int32_t codes[kBlock];
  int certain = 0xFF;
  for (int h = 0; h < kBlock; h += 8) {
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < k.before + k.after + 1; j++)
      sum = _mm256_add_epi32(sum,
                             _mm256_loadu_si256(reinterpret_cast<const __m256i*>(squares + h + j)));
    const __m256 t = lrn_eight(k, distances(k, x + h), sum);
    const __m256 r = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 away = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(t, r));
    certain &= _mm256_movemask_ps(_mm256_cmp_ps(away, _mm256_set1_ps(kCertain), _CMP_LT_OQ));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + h),
                        _mm256_add_epi32(_mm256_cvtps_epi32(r), _mm256_set1_epi32(k.zero)));
  }
  for (int i = 0; i < kBlock; i++) y[i] = std::uint8_t(codes[i]);
  if (certain == 0xFF) return;
  for (int i = 0; i < kBlock; i++) {
    double sum = 0;
    for (int j = 0; j < k.before + k.after + 1; j++) sum += squares[i + j];
    y[i] = lrn_code(k, int(x[i]) - k.x_zero, sum);
  }
}

void avx2_lrn(const LrnTerms& k, const View& x, const View& y, int pixels, std::uint8_t* scratch) {
  if (!lrn_fits(k)) return rows_lrn(k, x, y, pixels, scratch);
  const int blocks = (k.channels + kBlock - 1) / kBlock;
  // As in rows_lrn: [before zeros][channels][zeros up to a whole block and the last window].
  auto* squares = reinterpret_cast<std::int32_t*>(scratch);
  const int count = blocks * kBlock + k.before + k.after;
  for (int i = 0; i < count; i++) squares[i] = 0;
  for (int p = 0; p < pixels; p++) {
    for (int c = 0; c < blocks * kBlock; c += 8) {
      const __m256i d = distances(k, x.data + c / kBlock * x.plane + p * kBlock + c % kBlock);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(squares + k.before + c),
                          _mm256_mullo_epi32(d, d));
    }
    for (int c = k.channels; c < blocks * kBlock; c++) squares[k.before + c] = 0;
    for (int b = 0; b < blocks; b++)
      lrn_block(k, x.data + b * x.plane + p * kBlock, squares + b * kBlock,
                y.data + b * y.plane + p * kBlock);
  }
}
