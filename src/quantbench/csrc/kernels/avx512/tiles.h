// Tiles (pixels, blocks of 16 outputs) that the AVX-512 convolution is compiled for: at most 28
// accumulators, and small ones for the ends of rows. No include guard: included wherever the list
// is needed.
// clang-format off
QB_TILE(1, 1) QB_TILE(2, 1) QB_TILE(4, 1) QB_TILE(8, 1) QB_TILE(14, 1) QB_TILE(16, 1) QB_TILE(28, 1)
QB_TILE(1, 2) QB_TILE(2, 2) QB_TILE(4, 2) QB_TILE(7, 2) QB_TILE(8, 2) QB_TILE(11, 2) QB_TILE(14, 2)
QB_TILE(1, 3) QB_TILE(2, 3) QB_TILE(4, 3) QB_TILE(7, 3) QB_TILE(8, 3) QB_TILE(9, 3)
QB_TILE(1, 4) QB_TILE(2, 4) QB_TILE(4, 4) QB_TILE(5, 4) QB_TILE(6, 4)
// clang-format on
