#include "operators/convolution/tiling.h"

#include <algorithm>

namespace qb {
namespace {

constexpr double kNever = 1e30;

// The cheapest sum of pieces 1..most that makes n, or more if the first piece may begin before 0:
// cost, and last piece of each prefix.
template <typename Cost>
std::vector<int> cheapest(int n, int most, bool before, const Cost& cost, double* total) {
  std::vector<double> best(n + 1, kNever);
  std::vector<int> last(n + 1, 0);
  best[0] = 0;
  for (int i = 1; i <= n; i++)
    for (int piece = 1; piece <= (before ? most : std::min(most, i)); piece++) {
      const double c = best[std::max(0, i - piece)] + cost(piece);
      if (c < best[i]) best[i] = c, last[i] = piece;
    }
  *total = best[n];
  return last;
}

}  // namespace

Tiling::Tiling(int width, const ConvModel& model) {
  const auto has = [&](int pixels, int blocks) {
    return std::any_of(model.shapes, model.shapes + model.shape_count, [&](const TileShape& s) {
      return s.pixels == pixels && s.blocks == blocks;
    });
  };
  for (int b = 0; b <= kStripBlocks; b++) {
    const auto piece = [&](int pixels) {
      if (pixels > width || !has(pixels, std::max(1, b))) return kNever;
      return b ? model.step(pixels, b) : model.column_step(pixels);
    };
    const std::vector<int> last = cheapest(width, kAccumulators, true, piece, &cost[b]);
    if (cost[b] >= kNever) continue;  // no tile of so many blocks
    for (int n = width; n > 0; n -= last[n])
      tiles[b].push_back({std::max(0, n - last[n]), last[n]});
    std::reverse(tiles[b].begin(), tiles[b].end());
  }
}

std::vector<Strip> Tiling::strips(int panel, int first, int count, bool columns) const {
  double total;
  columns = columns && cost[0] < cost[1];
  const auto piece = [&](int b) { return cost[b == 1 && columns ? 0 : b]; };
  const std::vector<int> last = cheapest(count, kStripBlocks, false, piece, &total);
  std::vector<Strip> cut;
  for (int i = count; i > 0; i -= last[i])
    cut.push_back({panel, first + i - last[i], last[i], nullptr, last[i] == 1 && columns});
  std::reverse(cut.begin(), cut.end());
  return cut;
}

double Tiling::best(int count, bool columns) const {
  double total = 0;
  for (const Strip& s : strips(0, 0, count, columns)) total += cost[s.cut()];
  return total;
}

}  // namespace qb
