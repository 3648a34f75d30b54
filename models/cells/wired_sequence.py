"""Mixed memory over a wiring of gated CfCs, for a whole sequence, its gradient by hand: see `mixed_sequence`.

x, U, a, c, m, L    of the memory, as in `mixed_sequence`; H are the units of all layers, side by side
n            units of a layer; the last layer's state is the output
u            T, B, 4n       input part of the first layer's heads
b            4(H − n)       bias of the other layers' heads, one after the other
W            4H, H          recurrent weights of all layers, block-diagonal
S            4n, n'         weights of each other layer from the n' units before it
z            T, B, 4H       heads of all layers, one after the other
y            T, B, H        states of all layers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from statestream.models.cells.cfc_sequence import derivatives, gate, gradient_dtype, outer
from statestream.models.cells.mixed_sequence import memory_derivatives, remember, through_memory


class WiringWeights(NamedTuple):
    """Gated CfCs in a chain, without the input part of the first."""

    sizes: Sequence[int]
    """Units of each."""
    W: Tensor
    b: Tensor
    S: Sequence[Tensor]
    gate_both: bool
    """h = f1·(1 − t) + f2·t; otherwise f1 + t·f2."""


def wired_sequence(
    x_TBG: Tensor,
    u_TBP: Tensor,
    d_TB1: Tensor,
    state: tuple[Tensor, Tensor],
    recurrent: Tensor,
    weights: WiringWeights,
    valid_TB1: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output of all steps, `[T, B, n]`, and h and c after the last valid one. `state` is h and c, `recurrent` U."""
    sizes, W, b, S, gate_both = weights
    y_TBn, h_BH, c_BH = _Wired.apply(  # type: ignore[no-untyped-call]
        x_TBG, u_TBP, d_TB1, *state, recurrent, W, b, valid_TB1, gate_both, sizes, *S
    )
    return y_TBn, h_BH, c_BH


class _Wired(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        u: Tensor,
        d: Tensor,
        h: Tensor,
        c: Tensor,
        U: Tensor,
        W: Tensor,
        b: Tensor,
        valid: Tensor | None,
        gate_both: bool,
        sizes: Sequence[int],
        *S: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch, units = len(u), *h.shape
        a, z = u.new_empty(2, steps, batch, 4 * units)
        h_before, c_before, squashed, m, y = u.new_empty(5, steps, batch, units)
        z[..., : 4 * sizes[0]], z[..., 4 * sizes[0] :] = u, b
        heads = [part.unbind() for part in _layers(z, sizes, 4)]
        states = [part.unbind() for part in _layers(y, sizes)]
        Ut, Wt, St = U.t(), W.t(), [weight.t() for weight in S]
        for step in range(steps):
            h_before[step], c_before[step] = h, c
            held = remember(torch.addmm(x[step], h, Ut, out=a[step]), c, squashed[step], m[step])
            z[step].addmm_(m[step], Wt)
            for k in range(len(sizes)):
                if k:
                    heads[k][step].addmm_(states[k - 1][step], St[k - 1])
                gate(heads[k][step], d[step], states[k][step], gate_both)
            h = y[step] if valid is None else torch.where(valid[step], y[step], h)
            c = held if valid is None else torch.where(valid[step], held, c)
        ctx.save_for_backward(d, a, h_before, c_before, squashed, m, z, y, U, W, valid, *S)
        ctx.gate_both, ctx.sizes, ctx.dtype = gate_both, sizes, gradient_dtype(z)
        return y[..., units - sizes[-1] :], h.clone(), c

    @staticmethod
    def backward(ctx: Any, g_y: Tensor, g_h: Tensor, g_c: Tensor) -> tuple[Tensor | None, ...]:
        d, a, h_before, c_before, squashed, m, z, y, U, W, valid, *S = ctx.saved_tensors
        sizes, dtype = ctx.sizes, ctx.dtype
        U, W, S = U.to(dtype), W.to(dtype), [weight.to(dtype) for weight in S]
        J = [derivatives(part, d, ctx.gate_both) for part in _layers(z, sizes, 4)]
        by = memory_derivatives(a, c_before, squashed)
        g_a, g_z = torch.empty_like(a, dtype=dtype), torch.empty_like(z, dtype=dtype)
        g_heads, last = _layers(g_z, sizes, 4), len(sizes) - 1
        for step in range(len(z) - 1, -1, -1):
            kept = None if valid is None else [torch.where(valid[step], 0.0, g) for g in (g_h, g_c)]
            if kept is not None:
                g_h, g_c = g_h - kept[0], g_c - kept[1]
            carried = _layers(g_h, sizes)
            for k in range(last, -1, -1):
                by_next = g_y[step] if k == last else g_heads[k + 1][step] @ S[k]
                J_k = J[k][step]
                torch.mul(J_k, (carried[k] + by_next).unsqueeze(1), out=g_heads[k][step].view(J_k.shape))
            g_h, g_c = through_memory((g_z[step] @ W).to(z.dtype), g_c, by.at(step), g_a[step], U)
            if kept is not None:
                g_h, g_c = g_h + kept[0], g_c + kept[1]
        g_b = g_z[..., 4 * sizes[0] :].sum(dim=(0, 1), dtype=z.dtype)
        g_S = [outer(part, before) for part, before in zip(g_heads[1:], _layers(y, sizes), strict=False)]
        g_x, g_u = g_a.to(z.dtype), g_heads[0].to(z.dtype)
        return g_x, g_u, None, g_h, g_c, outer(g_a, h_before), outer(g_z, m), g_b, None, None, None, *g_S


def _layers(values: Tensor, sizes: Sequence[int], each: int = 1) -> Sequence[Tensor]:
    """Views of what each layer has, `each` values a unit."""
    return torch.split(values, [each * size for size in sizes], dim=-1)
