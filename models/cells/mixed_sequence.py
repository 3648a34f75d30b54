"""Mixed memory over a gated CfC, for a whole sequence, its gradient by hand: see `cfc_sequence`.

u, d, W, V, b, k, f1, f2, t, J     of the CfC, as in `cfc_sequence`
x            T, B, 4H       input part of the memory's gates
U            4H, H          its recurrent weights
a            T, B, 4H       its gates, activated: candidate g, then i, f and o
c, m         T, B, H        memory after each step: f·c + i·g; what it says to the CfC: o·tanh c ("squashed")
y            T, B, H        the CfC's next state from m, which is also the memory's next hidden state
L            T, B, 3, H     derivative of c by the products before g, i and f
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from statestream.models.cells.cfc_sequence import (
    SequenceWeights,
    derivatives,
    gate,
    gradient_dtype,
    last_first,
    outer,
    tanh,
)


def mixed_sequence(
    x_TBG: Tensor,
    u_TBP: Tensor,
    d_TB1: Tensor,
    state: tuple[Tensor, Tensor],
    recurrent: Tensor,
    weights: SequenceWeights,
    valid_TB1: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`y_TBH` of all steps, and h and c after the last valid one. `state` is h and c, `recurrent` U."""
    y_TBH, h_BH, c_BH = _Mixed.apply(  # type: ignore[no-untyped-call]
        x_TBG, u_TBP, d_TB1, *state, recurrent, *weights[:3], valid_TB1, weights.gate_both
    )
    return y_TBH, h_BH, c_BH


class _Mixed(torch.autograd.Function):
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
        V: Tensor | None,
        b: Tensor | None,
        valid: Tensor | None,
        gate_both: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch, units = len(u), *h.shape
        a, k = u.new_empty(steps, batch, 4 * units), u.new_empty(steps, batch, u.shape[-1])
        z = k if V is None else torch.empty_like(a)
        h_before, c_before, squashed, m, y = u.new_empty(5, steps, batch, units)
        Ut, Wt, Vt = U.t(), W.t(), None if V is None else V.t()
        for step in range(steps):
            h_before[step], c_before[step] = h, c
            held = remember(torch.addmm(x[step], h, Ut, out=a[step]), c, squashed[step], m[step])
            torch.addmm(u[step], m[step], Wt, out=k[step])
            if Vt is not None and b is not None:
                torch.addmm(b, tanh(k[step], out=k[step]), Vt, out=z[step])
            gate(z[step], d[step], y[step], gate_both)
            h = y[step] if valid is None else torch.where(valid[step], y[step], h)
            c = held if valid is None else torch.where(valid[step], held, c)
        ctx.save_for_backward(d, a, h_before, c_before, squashed, m, k, z, U, W, V, valid)
        ctx.gate_both, ctx.dtype = gate_both, gradient_dtype(z)
        return y, h.clone(), c

    @staticmethod
    def backward(ctx: Any, g_y: Tensor, g_h: Tensor, g_c: Tensor) -> tuple[Tensor | None, ...]:
        d, a, h_before, c_before, squashed, m, k, z, U, W, V, valid = ctx.saved_tensors
        dtype = ctx.dtype
        U, W = U.to(dtype), W.to(dtype)
        if V is not None:
            V, hidden = V.to(dtype), (1 - k * k).to(dtype)
        by = memory_derivatives(a, c_before, squashed)
        g_a, g_z = torch.empty_like(a, dtype=dtype), torch.empty_like(z, dtype=dtype)
        g_k = g_z if V is None else torch.empty_like(k, dtype=dtype)
        for step, J in last_first(len(z), lambda steps: derivatives(z[steps], d[steps], ctx.gate_both)):
            kept = None if valid is None else [torch.where(valid[step], 0.0, carried) for carried in (g_h, g_c)]
            if kept is not None:
                g_h, g_c = g_h - kept[0], g_c - kept[1]
            torch.mul(J, (g_h + g_y[step]).unsqueeze(1), out=g_z[step].view(J.shape))
            if V is not None:
                torch.mm(g_z[step], V, out=g_k[step]).mul_(hidden[step])
            g_h, g_c = through_memory((g_k[step] @ W).to(z.dtype), g_c, by.at(step), g_a[step], U)
            if kept is not None:
                g_h, g_c = g_h + kept[0], g_c + kept[1]
        by_heads = (None, None) if V is None else (outer(g_z, k), g_z.sum(dim=(0, 1), dtype=z.dtype))
        g_x, g_u = g_a.to(z.dtype), g_k.to(z.dtype)
        return g_x, g_u, None, g_h, g_c, outer(g_a, h_before), outer(g_k, m), *by_heads, None, None


class MemoryDerivatives(NamedTuple):
    """Derivatives of a memory's step, or of all steps."""

    L: Tensor
    by_o: Tensor
    """Of m by the product before o."""
    by_c: Tensor
    """Of m by c."""
    f: Tensor
    """Of c by c before."""

    def at(self, step: int) -> MemoryDerivatives:
        """Those of one step."""
        return MemoryDerivatives(*(part[step] for part in self))


def remember(gates: Tensor, c: Tensor, squashed: Tensor, m: Tensor) -> Tensor:
    """One step of the memory: activates its gates in place, writes `squashed` and `m`; returns the next c."""
    g, i, f, o = gates.chunk(4, dim=1)
    tanh(g, out=g)
    gates[:, c.shape[1] :].sigmoid_()
    held = torch.addcmul(c * f, g, i)
    torch.mul(o, tanh(held, out=squashed), out=m)
    return held


def memory_derivatives(a: Tensor, c_before: Tensor, squashed: Tensor) -> MemoryDerivatives:
    """Derivatives of all steps, from the gates as `remember` leaves them."""
    g, i, f, o = a.chunk(4, dim=-1)
    L = torch.stack([i * (1 - g * g), g * i * (1 - i), c_before * f * (1 - f)], dim=2)
    return MemoryDerivatives(L, squashed * o * (1 - o), o * (1 - squashed * squashed), f)


def through_memory(g_m: Tensor, g_c: Tensor, by: MemoryDerivatives, g_a: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
    """One step backwards: writes the gates' gradient `g_a`; returns those of h and c before."""
    units = g_m.shape[1]
    g_c = torch.addcmul(g_c, g_m, by.by_c)
    torch.mul(by.L, g_c.unsqueeze(1), out=g_a[:, : 3 * units].view(by.L.shape))
    torch.mul(by.by_o, g_m, out=g_a[:, 3 * units :])
    return (g_a @ U).to(g_m.dtype), g_c * by.f
