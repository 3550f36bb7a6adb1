#include "kernels/dispatch.h"

#include <stdexcept>

// Every instruction set, the best first: `const Kernels* NAME_kernels()`, in the folder of NAME's
// first word, gives its kernels, or null where this machine cannot run them.
#define QB_INSTRUCTION_SETS(SET) \
  SET(avx512)                    \
  SET(avxvnni)                   \
  SET(avx2)                      \
  SET(arm64_i8mm)                \
  SET(arm64_dot)                 \
  SET(portable)

namespace qb {

#define QB_DECLARE(NAME) const Kernels* NAME##_kernels();
QB_INSTRUCTION_SETS(QB_DECLARE)
#undef QB_DECLARE

namespace {

struct Set {
  const char* name;
  const Kernels* kernels;
};

std::vector<Set> all() {
#define QB_ENTRY(NAME) {#NAME, NAME##_kernels()},
  return {QB_INSTRUCTION_SETS(QB_ENTRY)};
#undef QB_ENTRY
}

}  // namespace

const Kernels& choose_kernels(const std::string& name) {
  std::string known;
  for (const Set& set : all()) {
    if (set.kernels && (name.empty() || name == set.name)) return *set.kernels;
    known += std::string(known.empty() ? "" : ", ") + set.name;
  }
  throw std::invalid_argument("instruction set '" + name +
                              "': choose one that this processor has, of " + known);
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> here;
  for (const Set& set : all())
    if (set.kernels) here.emplace_back(set.name);
  return here;
}

}  // namespace qb
