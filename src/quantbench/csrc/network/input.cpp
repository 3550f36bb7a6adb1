#include "network/input.h"

#include <atomic>
#include <cstring>

namespace qb {

bool load(const void* images, bool floats, float scale, const Kernels& kernels, const Tensor& t,
          const Run& run) {
  const std::int64_t pixels = std::int64_t(t.h) * t.w;
  std::atomic<bool> sane{true};
  run.each(std::int64_t(run.images) * t.h, [&](std::int64_t item, int thread) {
    const std::int64_t n = item / t.h, r = item % t.h;
    if (r == 0 && t.has_halo()) fill_halo(t, run.first + n);
    const View v = t.view(run.first + n);
    std::uint8_t* scratch = run.scratch_of(thread);
    if (floats && t.vector()) {
      if (!kernels.quantize(static_cast<const float*>(images) + n * t.c, t.c, scale, t.zero, t.lo,
                            t.hi, v.data))
        sane = false;
      return;
    }
    for (int c = 0; c < t.c; c++) {
      const std::int64_t at = (n * t.c + c) * pixels + r * t.w;
      std::uint8_t* row = scratch + (t.packed ? c * std::int64_t(t.w) : 0);
      if (!floats)
        std::memcpy(row, static_cast<const std::uint8_t*>(images) + at, std::size_t(t.w));
      else if (!kernels.quantize(static_cast<const float*>(images) + at, t.w, scale, t.zero, t.lo,
                                 t.hi, row))
        sane = false;
      std::uint8_t* to = v.data + c / kBlock * v.plane + r * v.row + c % kBlock;
      for (int p = 0; p < t.w && !t.packed; p++) to[p * v.pixel] = row[p];
    }
    if (t.packed) kernels.interleave(scratch, t.w, t.w, v.data + r * v.row);
  });
  return sane;
}

}  // namespace qb
