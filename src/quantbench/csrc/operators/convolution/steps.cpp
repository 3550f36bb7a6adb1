#include "operators/convolution/steps.h"

#include <algorithm>

namespace qb {
namespace {

// A step reads four bytes: four channels of a tap, or four bytes of a row of taps where pixels are
// packed.
struct Source {
  int offset, ky, kx, channel;  // of the first byte
};

std::vector<Source> sources(const ConvSpec& s, const Tensor& x, int first, int count) {
  std::vector<Source> all;
  const int per_group = s.oc / s.groups, last = std::min(s.oc, (first + count) * kBlock) - 1;
  // Input channels of the groups that these outputs belong to, from a whole step on.
  const int low = first * kBlock / per_group * s.ic / kStep * kStep;
  const int high = (last / per_group + 1) * s.ic;
  if (x.packed) {
    for (int ky = 0; ky < s.kh; ky++)
      for (int j = 0; j < s.kw * x.c; j += kStep)
        all.push_back({int(std::int64_t(ky) * s.dy * x.row + j), ky, j / x.c, j % x.c});
    return all;
  }
  for (int block = low / kBlock * kBlock; block < high;
       block += kBlock)  // all taps of a block while it is cached
    for (int ky = 0; ky < s.kh; ky++)
      for (int kx = 0; kx < s.kw; kx++) {
        const std::int64_t at = block / kBlock * x.plane + ky * s.dy * x.row + kx * s.dx * x.pixel;
        for (int c = std::max(block, low); c < std::min(block + kBlock, high); c += kStep)
          all.push_back({int(at + c - block), ky, kx, c});
      }
  return all;
}

// Weight of output o at byte `j` of a step; 0 outside of the filter, the group and the outputs.
int weight(const ConvSpec& s, const Tensor& x, const Source& at, int j, int o) {
  int c = at.channel + j, kx = at.kx;
  if (x.packed) kx += c / x.c, c %= x.c;
  if (o >= s.oc || kx >= s.kw) return 0;
  const int in_group = c - o / (s.oc / s.groups) * s.ic;
  return in_group < 0 || in_group >= s.ic ? 0 : s.value(o, in_group, at.ky, kx);
}

}  // namespace

std::vector<Blocks> blocks_of(const ConvSpec& s) {
  const int per_group = s.oc / s.groups, blocks = (s.oc + kBlock - 1) / kBlock;
  const int count = s.groups == 1 ? blocks : per_group % kBlock == 0 ? per_group / kBlock : 1;
  std::vector<Blocks> all;
  for (int first = 0; first < blocks; first += count) all.push_back({first, count});
  return all;
}

std::vector<Step> steps_of(const ConvSpec& s, const Tensor& x, int first, int count) {
  std::vector<Step> all;
  const int outs = count * kBlock;
  for (const Source& at : sources(s, x, first, count)) {
    std::vector<int> rest(std::size_t(outs) * kStep);
    for (int o = 0; o < outs; o++)
      for (int j = 0; j < kStep; j++) rest[o * kStep + j] = weight(s, x, at, j, first * kBlock + o);
    while (std::any_of(rest.begin(), rest.end(), [](int v) { return v != 0; })) {
      std::vector<std::int8_t> part(rest.size());
      for (std::size_t i = 0; i < rest.size(); i++) {
        part[i] = std::int8_t(std::min(127, std::max(-128, rest[i])));
        rest[i] -= part[i];
      }
      all.push_back({at.offset, std::move(part)});
    }
  }
  return all;
}

}  // namespace qb
