"""Integer least squares in a box: the best codes for a quadratic form.

For each row, min over codes c of (c - u)^T H (c - u), low <= c <= high.

This is rounding with a known second moment, and the closest vector problem of lattice theory. The
rows of a group share H, and all rows of all groups are worked on at once. Two searches complement
each other: a beam along the Cholesky factor, whose width of 1 is Babai's nearest plane (the
recursion of OBQ and GPTQ), and a descent over single codes that goes on through uphill moves (tabu
search, Glover 1989).

The box is the same for all codes, that of a grid, or each code has its own, such as the two
neighbours of a weight.

Relatives: GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), which is Babai's nearest plane run
from the last column to the first (Chen et al. 2025, arXiv 2507.18553), so that a beam of width 1 is
GPTQ with columns in the order of their second moments; QuantEase (Behdin et al. 2023, arXiv
2309.01885), which is coordinate descent.

Shapes: u and codes (groups, rows, n), H (groups, n, n), bounds of their own (groups, rows, n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from quantbench.errors import BadInput

Bound = int | Tensor  # of all codes, or (groups, rows, n)

# columns between two reorderings of the whole beam: bookkeeping then costs less than the search
BLOCK = 32

LEAST = 1e-3  # of the mean second moment: what an input counts in damping at least

# moves for which a changed code rests, drawn anew each time so that the search cannot cycle
TENURE = (5, 15)


def cost(codes: Tensor, u: Tensor, h: Tensor) -> Tensor:
    """(groups, rows) values of (c - u)^T H (c - u), in float64."""
    e = (codes - u).double()
    return ((e @ h.double()) * e).sum(-1)


def damped(h: Tensor, share: float) -> Tensor:
    """H plus a share of its own diagonal, or ten times as much until it is positive definite.

    So each weight is held to its old value in proportion to its own input: a share of the mean
    would be ruled by the few inputs of transformers that are a hundred times larger than the rest.
    Columns without input count a little.

    Raises:
        BadInput: H is not finite.

    """
    if not torch.isfinite(h).all():
        raise BadInput("second moments of a layer's input are NaN or infinite: its input overflows")
    own = h.diagonal(dim1=1, dim2=2)
    own = torch.diag_embed(torch.maximum(own, LEAST * own.mean(1, keepdim=True)).clamp(min=1e-30))
    while True:
        raised = h + max(share, 1e-12) * own
        if not torch.linalg.cholesky_ex(raised)[1].any():
            return raised
        share = 10 * max(share, 1e-12)  # sums in single precision left it slightly indefinite


def beam(u: Tensor, h: Tensor, low: Bound, high: Bound, width: int = 1) -> Tensor:
    """Round column after column, the most important ones first.

    The best ``width`` partial roundings of a row are kept.

    Args:
        u: unconstrained solution, in codes.
        h: positive definite, best in float64: its Cholesky factor is what is used.
        low: smallest code, of all or each.
        high: largest code, at least ``low``.
        width: roundings kept; 1 is nearest plane.

    Returns:
        Codes.

    """
    groups, rows, n = u.shape
    order = h.diagonal(dim1=1, dim2=2).argsort(1)
    rank = order.unsqueeze(1)
    sorted_h = h.gather(1, order.unsqueeze(2).expand_as(h)).gather(2, rank.expand_as(h))
    r = torch.linalg.cholesky(sorted_h.double(), upper=True).to(u)
    target, lows, highs = (t.gather(2, rank.expand_as(u)) for t in (u, *_box(u, low, high)))
    error, total = u.new_zeros(groups, rows, 1, n), u.new_zeros(groups, rows, 1)
    for end in range(n, 0, -BLOCK):
        part = slice(max(0, end - BLOCK), end)
        pull = error[..., end:].flatten(1, 2) @ r[:, part, end:].mT
        pull = pull.view(groups, rows, error.shape[2], -1)
        own, box = r[:, part, part], (lows[..., part], highs[..., part])
        inner, total, origin = _beam_block(target[..., part], own, pull, total, box, width)
        error = _pick(error, origin)
        error[..., part] = inner
    codes = (error[:, :, 0] + target).round()
    return torch.empty_like(u).scatter_(2, rank.expand_as(u), codes)


def _box(u: Tensor, low: Bound, high: Bound) -> tuple[Tensor, Tensor]:
    """Bounds in the shape of ``u``, without a copy of what is the same for all codes."""
    first, last = (torch.as_tensor(t).to(u).expand_as(u) for t in (low, high))
    return first, last


def _beam_block(
    target: Tensor,
    r: Tensor,
    pull: Tensor,
    total: Tensor,
    box: tuple[Tensor, Tensor],
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One block of columns, from the last to the first.

    Args:
        target: (groups, rows, b) unconstrained values.
        r: (groups, b, b) upper Cholesky factor.
        pull: (groups, rows, kept, b) what the columns already rounded add to R e.
        total: (groups, rows, kept) cost so far.
        box: (groups, rows, b) lowest and highest codes.
        width: of the beam.

    Returns:
        (groups, rows, kept, b) errors, (groups, rows, kept) costs, and which beam entry each one
        grew from.

    """
    error = torch.zeros_like(pull)
    origin = torch.arange(pull.shape[2], device=pull.device).expand_as(total)
    for j in range(pull.shape[3] - 1, -1, -1):
        own = r[:, j, j].view(-1, 1, 1)
        ahead = (error[..., j + 1 :] * r[:, None, None, j, j + 1 :]).sum(-1)
        wanted = target[..., j, None] - (pull[..., j] + ahead) / own
        low, high = (bound[..., j, None] for bound in box)
        first = wanted.round().clamp_(low, high)
        second = torch.where(wanted > first, first + 1, first - 1)
        price = own.square()
        near = total + price * (first - wanted).square()
        far = total + price * (second - wanted).square()
        far = far.masked_fill_((second < low) | (second > high), torch.inf)
        total, index = torch.cat([near, far], 2).topk(min(width, 2 * near.shape[2]), largest=False)
        parent = index % near.shape[2]
        error, pull, origin = _pick(error, parent), _pick(pull, parent), origin.gather(2, parent)
        error[..., j] = torch.cat([first, second], 2).gather(2, index) - target[..., j, None]
    return error, total, origin


def _pick(kept: Tensor, parent: Tensor) -> Tensor:
    """Entries of a beam (groups, rows, kept, b) by their numbers (groups, rows, new)."""
    return kept.gather(2, parent.unsqueeze(3).expand(-1, -1, -1, kept.shape[3]))


def descend(
    codes: Tensor, u: Tensor, h: Tensor, low: Bound, high: Bound, sweeps: int = 50
) -> Tensor:
    """Coordinate descent: set one code after the other to its best value until no code changes."""
    lows, highs = _box(u, low, high)
    codes, slope = codes.clone(), (codes - u) @ h
    for _ in range(sweeps):
        changed = False
        for j in range(h.shape[1]):
            best = (codes[..., j] - slope[..., j] / h[:, j, j, None]).round()
            best = best.clamp(lows[..., j], highs[..., j])
            move = best - codes[..., j]
            if move.any():
                slope.addcmul_(move.unsqueeze(2), h[:, j].unsqueeze(1))
                codes[..., j], changed = best, True
        if not changed:
            break
    return codes


def tabu(
    codes: Tensor, u: Tensor, h: Tensor, low: Bound, high: Bound, moves: int, rng: torch.Generator
) -> Tensor:
    """Steepest single-code moves, uphill where none goes down.

    A changed code rests, unless it leads to a new best.

    Returns:
        The best codes met, row by row.

    """
    shape, n = codes.shape, h.shape[1]
    slope = ((codes - u) @ h).flatten(0, 1)
    now = ((codes - u).flatten(0, 1) * slope).sum(1)
    codes = codes.flatten(0, 1).clone()
    lows, highs = (bound.flatten(0, 1) for bound in _box(u, low, high))
    fixed = lows == highs
    rows = torch.arange(shape[0] * shape[1], device=codes.device)
    first, flat = rows // shape[1] * n, h.flatten(0, 1)  # of a row's group: its first row in flat
    curve = h.diagonal(dim1=1, dim2=2).repeat_interleave(shape[1], 0)
    best, best_codes = now.clone(), codes.clone()
    rests = torch.zeros_like(codes)
    for move in range(moves):
        step = torch.where(slope > 0, -1.0, 1.0)
        step = torch.where((codes + step < lows) | (codes + step > highs), -step, step)
        change = torch.addcmul(curve, step, slope, value=2)
        resting = (rests > move) & (now.unsqueeze(1) + change >= best.unsqueeze(1)) | fixed
        gain, j = change.masked_fill_(resting, torch.inf).min(1)
        taken = step[rows, j]
        codes[rows, j] += taken
        slope.addcmul_(taken.unsqueeze(1), flat[first + j])
        now = now + gain
        rests[rows, j] = move + torch.randint(*TENURE, (len(rows),), generator=rng).to(rests)
        better = now < best
        best = torch.where(better, now, best)
        best_codes = torch.where(better.unsqueeze(1), codes, best_codes)
    return best_codes.view(shape)
