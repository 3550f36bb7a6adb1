#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "target.h"

namespace qb {
namespace {

bool runs_here(const char* name) {
#if QB_X86
  __builtin_cpu_init();
  if (!std::strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
  if (!std::strcmp(name, "avx2")) return __builtin_cpu_supports("avx2");
#endif
  return !std::strcmp(name, "portable");
}

}  // namespace

const Kernels& choose_kernels(const char* name) {
#if QB_X86
  const Kernels* all[] = {&kAvx512, &kAvx2, &kPortable};
#else
  const Kernels* all[] = {&kPortable};
#endif
  for (const Kernels* k : all)
    if (runs_here(k->name) && (!*name || !std::strcmp(name, k->name))) return *k;
  throw std::invalid_argument(std::string("instruction set '") + name +
                              "': choose portable, avx2 or avx512, and one that this processor has");
}

}  // namespace qb
