"""The definition of integer inference: programs over codes, and what each operator computes.

Every executor (the NumPy oracle, the simulation, the native kernels) follows this text; they agree
code by code.

**Tensors.** One image's activation has the shape (C, H, W); a vector is (C, 1, 1); the batch is a
leading axis. A tensor holds uint8 codes q in lo..hi of the real value ``(q - zero) * scale``: one
float32 scale and one integer zero point per tensor (``Format``), 0 <= lo <= zero <= hi <= 255.
Whatever pads or fills a tensor is the code ``zero``. The network input is float32, or uint8 codes,
which must lie in lo..hi.

**Arithmetic.** ``f32(a)`` is IEEE-754 binary32 rounding to nearest even; every product, sum and
quotient written inside ``f32`` is rounded on its own: no fused multiply-add. ``rint`` rounds halves
to even. Integer sums are exact and fit in int32, which ``quantbench.integer.validate`` proves from
the weights before anything runs. Ratios of scales are computed in binary64, left to right, then
rounded to binary32 (``scales.conv_multiplier``, ``scales.ratio``).

    quantize(t, y) = clamp(rint(t), lo - zero_y, hi - zero_y) + zero_y   (clamped as a float)

**Operators** (x, r: input codes; s, z: the scale and zero point of a tensor; y: output)

    network input   q = quantize(f32(image / s), y)
    Conv            v = weight - weight_zero[o]
                    acc = bias[o] + sum (x - z_x) * v     over the window and the group
                    m[o] = f32(s_x * weight_scale[o] / s_y)
                    y = quantize(f32(f32(acc) * m[o]), y)
                    clamped to lo[o], hi[o] per channel (ReLU, ReLU6, per-channel ceilings)
      + residual    y = quantize(f32(f32(f32(acc) * m[o]) + f32(f32(r - z_r) * f32(s_r / s_y))), y)
      + no format   (``out`` is None, the logits)
                    y = f32(f32(acc) * f32(s_x * weight_scale[o])), a float32
    Add             y = quantize(f32(f32(f32(a - z_a) * f32(s_a / s_y))
                                   + f32(f32(b - z_b) * f32(s_b / s_y))), y), clamped to lo..hi
    Mul             y = quantize(f32(f32((a - z_a) * (b - z_b)) * f32(s_a * s_b / s_y)), y)
                    a size (channels, rows, columns) of 1 stands for as many as the other has
    Concat          over channels, one or more inputs:
                    y = quantize(f32(f32(x - z_x) * f32(s_x / s_y)), y)
    MaxPool         y = max over the window; padding never wins; format kept
    AvgPool         y = quantize(f32(f32(sum (x - z_x)) * f32(s_x / (s_y * count))), y)
                    count = window area, or only its elements inside the image where
                    ``count_padding`` is False
    LRN             binary64: u = k + (alpha / n * s_x^2) * sum (x - z_x)^2
                    over the n channels c - n//2 .. c + (n-1)//2
                    y = quantize((x - z_x) * (s_x / s_y) / (sqrt(u) * sqrt(sqrt(u))), y)
                    beta is 3/4
    Lut             y = table[x]: any function of one variable, and grids that are not uniform
    Pad             y = x[:, ::stride, ::stride], then padded in channels, rows and columns;
                    format kept
    Select          y[c] = x[channels[c]]: channels chosen, in any order; format kept
    Rearrange       x seen in the sizes ``split``, its directions in the order ``axes``, seen in
                    ``into``; format kept
    Resize          bilinear, row by row and column by column. Output o of m, of n inputs, lies at
                    p = o (n - 1) / (m - 1) where corners are aligned, else at
                    p = ((2 o + 1) n - m) / (2 m), but within 0..n - 1. With D the common
                    denominator of all p, the inputs floor(p) and floor(p) + 1 weigh D - w and w,
                    w = (p - floor(p)) D: whole numbers.
                    acc = sum (x - z_x) * w_row * w_column     over the four
                    y = quantize(f32(f32(acc) * f32(s_x / (s_y * D_rows * D_columns))), y)
      + no format   y = f32(f32(acc) * f32(s_x / (D_rows * D_columns))), a float32
    Flatten         (C, H, W) to (C*H*W, 1, 1) in this order; format kept
    Dequantize      y = f32(f32(x - z_x) * s_x), a float32: logits that no linear layer makes
    Island          floats: what has no integer form runs in torch on dequantized inputs;
                    y = quantize(f32(t / s_y), y)

A linear layer is a 1x1 Conv on a (K, 1, 1) tensor. Weights of 2 to 8 bits are int8 codes with a
zero point per channel (0 for symmetric and for APoT weights, whose codes are integer multiples of
the smallest level).
"""
