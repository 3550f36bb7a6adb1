// Linear layers on AVX2. Packed weights become bytes in registers, through a table of 16 levels.
// Where levels are small (`run` below), products of bytes are added in int16 for several steps;
// elsewhere, and for weights of 8 bits, they are multiplied as words, which is exact whatever they
// are, and still faster than weights come from memory.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/requant.h"
#include "kernels/avx2/vectors.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

template <int Bits>
struct Levels {  // half a block of one step from packed weights
  __m256i table, mask;

  QB_INLINE explicit Levels(const LinearLayer& l)
      : table(_mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(l.levels)))),
        mask(_mm256_set1_epi8((1 << Bits) - 1)) {}

  QB_INLINE __m256i operator()(__m256i packed, int part) const {
    if (Bits == 8) return packed;
    return _mm256_shuffle_epi8(table,
                               _mm256_and_si256(_mm256_srli_epi16(packed, part * Bits), mask));
  }
};

// Products of one group of outputs with N images: weights, and inputs of each image.
template <int N>
struct Products {
  const std::uint8_t* weight;  // of the first block
  std::int64_t next;           // bytes from a packed step to the next
  const std::uint8_t* x;
  std::int64_t image;
};

// acc [image][block][half] += all steps of B blocks, in words.
template <int Bits, int N, int B>
QB_INLINE void add_words(const LinearLayer& l, Products<N> p, __m256i (*acc)[B][2]) {
  constexpr int kPerByte = 8 / Bits;
  const Levels<Bits> levels(l);
  for (int k = 0; k < l.steps; k += kPerByte, p.weight += p.next) QB_UNROLL
    for (int part = 0; part < kPerByte; part++, p.x += kStep) {
      __m256i even[N], odd[N];
      QB_UNROLL for (int n = 0; n < N; n++) {
        const __m256i t = four_codes(p.x + n * p.image);
        even[n] = _mm256_and_si256(t, _mm256_set1_epi16(255)), odd[n] = _mm256_srli_epi16(t, 8);
      }
      QB_UNROLL for (int b = 0; b < B; b++) QB_UNROLL
        for (int h = 0; h < 2; h++) {
          const __m256i w = levels(load(p.weight + 64 * b + 32 * h), part);
          const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
          const __m256i high = _mm256_srai_epi16(w, 8);
          QB_UNROLL for (int n = 0; n < N; n++)
            acc[n][b][h] = _mm256_add_epi32(
                acc[n][b][h],
                _mm256_add_epi32(_mm256_madd_epi16(even[n], low), _mm256_madd_epi16(odd[n], high)));
        }
    }
}

// The same in bytes, for weights of which `run` steps add up in int16.
template <int Bits, int N, int B>
QB_INLINE void add_bytes(const LinearLayer& l, Products<N> p, int run, __m256i (*acc)[B][2]) {
  constexpr int kPerByte = 8 / Bits;
  const Levels<Bits> levels(l);
  for (int k = 0; k < l.steps;) {
    __m256i sum[N][B][2];
    QB_UNROLL for (int n = 0; n < N; n++) QB_UNROLL
      for (int i = 0; i < 2 * B; i++) sum[n][i / 2][i % 2] = _mm256_setzero_si256();
    for (const int end = k + run < l.steps ? k + run : l.steps; k < end;
         k += kPerByte, p.weight += p.next) {
      __m256i x[kPerByte][N];
      QB_UNROLL for (int part = 0; part < kPerByte; part++, p.x += kStep) QB_UNROLL
        for (int n = 0; n < N; n++) x[part][n] = four_codes(p.x + n * p.image);
      QB_UNROLL for (int b = 0; b < B; b++) QB_UNROLL
        for (int h = 0; h < 2; h++) {
          const __m256i packed = load(p.weight + 64 * b + 32 * h);
          QB_UNROLL for (int part = 0; part < kPerByte; part++) QB_UNROLL
            for (int n = 0; n < N; n++)
              sum[n][b][h] = _mm256_add_epi16(
                  sum[n][b][h], _mm256_maddubs_epi16(x[part][n], levels(packed, part)));
        }
    }
    QB_UNROLL for (int n = 0; n < N; n++) QB_UNROLL
      for (int i = 0; i < 2 * B; i++)
        acc[n][i / 2][i % 2] = _mm256_add_epi32(
            acc[n][i / 2][i % 2], _mm256_madd_epi16(sum[n][i / 2][i % 2], _mm256_set1_epi16(1)));
  }
}

// Steps whose products, added in pairs, stay in int16 for all codes: whole packed ones, or none.
template <int Bits>
int run_of(const LinearLayer& l) {
  if (Bits == 8) return 0;
  int largest = 1;
  for (int i = 0; i < 16; i++) {
    const int v = l.levels[i] < 0 ? -l.levels[i] : l.levels[i];
    largest = v > largest ? v : largest;
  }
  constexpr int kPerByte = 8 / Bits;
  return 32767 / (2 * 255 * largest) / kPerByte * kPerByte;
}

QB_INLINE std::int32_t sum_of(const std::uint8_t* x, int inputs) {
  std::int32_t sum = 0;
  for (int i = 0; i < inputs; i++) sum += x[i];
  return sum;
}

struct Out {
  std::uint8_t* y;
  std::int64_t image;
};

// B blocks from `block` on, of N images.
template <int Bits, int N, int B>
void outputs(const LinearLayer& l, const Products<N>& p, int run, int block, const Out& out) {
  __m256i acc[N][B][2];
  for (int n = 0; n < N; n++)
    for (int i = 0; i < 2 * B; i++) acc[n][i / 2][i % 2] = load(l.bias + block * kBlock + 8 * i);
  if (run)
    add_bytes<Bits, N, B>(l, p, run, acc);
  else
    add_words<Bits, N, B>(l, p, acc);
  for (int n = 0; n < N; n++) {
    const std::int32_t sum = l.weight_zero ? sum_of(p.x + n * p.image, l.inputs) : 0;
    for (int b = 0; b < B; b++) {
      const int channel = (block + b) * kBlock;
      for (int h = 0; l.weight_zero && h < 2; h++)
        acc[n][b][h] = _mm256_sub_epi32(
            acc[n][b][h],
            _mm256_mullo_epi32(load(l.weight_zero + channel + 8 * h), _mm256_set1_epi32(sum)));
      finish_one(l.out, channel, acc[n][b],
                 out.y + n * out.image + channel * (l.out.floats ? 4 : 1));
    }
  }
}

// A vector meets four blocks at a time, four vectors one.
template <int Bits>
void linear_group(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
                  std::uint8_t* y, std::int64_t y_image, int group) {
  const int blocks = l.blocks - 4 * group < 4 ? l.blocks - 4 * group : 4;
  const int run = run_of<Bits>(l);
  const std::uint8_t* weight = l.weight + std::int64_t(group) * 4 * (l.steps * Bits / 8) * 64;
  int n = 0;
  for (; n + 4 <= images; n += 4)
    for (int b = 0; b < blocks; b++)
      outputs<Bits, 4, 1>(l, {weight + 64 * b, 64 * blocks, x + n * x_image, x_image}, run,
                          4 * group + b, {y + n * y_image, y_image});
  for (; n < images; n++) {
    const Out out{y + n * y_image, y_image};
    const std::uint8_t* from = x + n * x_image;
    if (blocks == 4)
      outputs<Bits, 1, 4>(l, {weight, 64 * blocks, from, x_image}, run, 4 * group, out);
    for (int b = 0; blocks < 4 && b < blocks; b++)
      outputs<Bits, 1, 1>(l, {weight + 64 * b, 64 * blocks, from, x_image}, run, 4 * group + b,
                          out);
  }
}

}  // namespace

void avx2_linear(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
                 std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t*) {
  auto* run = l.bits == 8 ? linear_group<8> : l.bits == 4 ? linear_group<4> : linear_group<2>;
  run(l, x, x_image, images, y, y_image, group);
}

}  // namespace qb
QB_TARGET_END
#endif
