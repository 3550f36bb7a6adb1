// Operators without weights on AVX-512, and the table of the set's kernels.
#include <cstddef>

#include "finish.h"
#include "kernels.h"
#include "target.h"

#if QB_X86
namespace qb {
bool avx512_conv_fits(const ConvLayer&);
void avx512_conv(const ConvLayer&, const ConvCall&);
void avx512_depthwise(const DepthwiseLayer&, const View&, const View&, int, int, int, std::uint8_t*);
void avx512_linear(const LinearLayer&, const std::uint8_t*, std::int64_t, int, std::uint8_t*, std::int64_t, int,
                   std::uint8_t*);
}  // namespace qb

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {
#include "rows.h"
}  // namespace

extern const Kernels kAvx512;
const Kernels kAvx512 = {"avx512", avx512_conv_fits, avx512_conv,   avx512_depthwise, avx512_linear, rows_quantize,
                         rows_lut, rows_add,         rows_max_pool, rows_avg_pool,    rows_lrn};

}  // namespace qb
QB_TARGET_END
#endif
