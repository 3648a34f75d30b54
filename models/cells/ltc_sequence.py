"""A densely wired LTC over a whole sequence, its gradient by hand: what training runs, several times faster.

T, U, B, N   steps, solver steps in each, batch, neurons; j the neuron a synapse leads to, i the one it comes from
σ, m         N, N (j, i)       slope of each synapse's sigmoid, and −σμ
s            N, B, N (j, b, i) σ(σ·v + m), recomputed backwards rather than kept
w            N, 2, N           strength times reversal potential, and strength
c            N                 inertia: capacitance times U
p, q         T, B, N           drive and conductance from outside the neurons, times elapsed time
d            T, B, 1           elapsed time / nominal period

U times:  v ← n/r,   n = c·v + d·Σ w₀·s + p,   r = c + d·Σ w₁·s + q
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def dense_sequence(
    p_BTN: Tensor,
    q_BTN: Tensor,
    d_BT1: Tensor,
    v_BN: Tensor,
    c_N: Tensor,
    synapses: tuple[Tensor, Tensor, Tensor],
    valid_BT: Tensor | None,
    *,
    unfolds: int,
) -> tuple[Tensor, Tensor]:
    """`v_BTN` after each step, and after the last valid one. `synapses` are σ, m and w."""
    valid = None if valid_BT is None else valid_BT.t().unsqueeze(-1)
    p, q, d = (part.transpose(0, 1) for part in (p_BTN, q_BTN, d_BT1))
    v_TBN, last = _Dense.apply(p, q, d, v_BN, c_N, *synapses, valid, unfolds)  # type: ignore[no-untyped-call]
    return v_TBN.transpose(0, 1), last


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        p: Tensor,
        q: Tensor,
        d: Tensor,
        v: Tensor,
        c: Tensor,
        slope: Tensor,
        offset: Tensor,
        w: Tensor,
        valid: Tensor | None,
        unfolds: int,
    ) -> tuple[Tensor, Tensor]:
        steps, batch, neurons = p.shape
        path = p.new_empty(steps, unfolds + 1, batch, neurons)
        below = p.new_empty(steps, unfolds, batch, neurons)
        s, to = p.new_empty(neurons, batch, neurons), w.transpose(1, 2).contiguous()
        rows = zip(p, q + c, d, path, below, [None] * steps if valid is None else valid, strict=True)
        for p_k, r_k, d_k, path_k, below_k, valid_k in rows:
            path_k[0] = v
            for before, after, r in zip(path_k, path_k[1:], below_k, strict=False):
                drive, conductance = torch.bmm(_open(before, slope, offset, s), to).permute(2, 1, 0)
                torch.addcmul(r_k, d_k, conductance, out=r)
                n = torch.addcmul(torch.addcmul(p_k, c, before), d_k, drive)
                torch.div(n, r, out=after)
            v = path_k[-1] if valid_k is None else torch.where(valid_k, path_k[-1], v)
        ctx.save_for_backward(d, c, slope, offset, w, valid, path, below)
        return path[:, -1].clone(), v.clone()

    @staticmethod
    def backward(ctx: Any, g_v: Tensor, g_last: Tensor) -> tuple[Tensor | None, ...]:
        d, c, slope, offset, w, valid, path, below = ctx.saved_tensors
        g_n, g_r = torch.empty_like(below), torch.empty_like(below)
        g_slope, g_offset, g_w = torch.zeros_like(slope), torch.zeros_like(offset), torch.zeros_like(w)
        s = path.new_empty(path.shape[-1], path.shape[2], path.shape[-1])
        by_slope, carried = slope.unsqueeze(1), g_last
        for step in range(len(path) - 1, -1, -1):
            g = g_v[step] + (carried if valid is None else torch.where(valid[step], carried, 0.0))
            for k in range(below.shape[1] - 1, -1, -1):
                before, after = path[step, k], path[step, k + 1]
                n = torch.div(g, below[step, k], out=g_n[step, k])
                r = torch.mul(n, after, out=g_r[step, k]).neg_()
                out = (torch.stack([n, r]) * d[step]).permute(2, 0, 1).contiguous()
                opened = _open(before, slope, offset, s)
                g_w += torch.bmm(out, opened)
                g_z = torch.ops.aten.sigmoid_backward(torch.bmm(out.transpose(1, 2), w), opened)
                g_offset += g_z.sum(dim=1)
                g_slope += (g_z * before).sum(dim=1)
                g = torch.addcmul((g_z * by_slope).sum(dim=0), c, n)
            carried = g if valid is None else torch.where(valid[step], g, carried)
        g_c = (g_n * path[:, :-1] + g_r).sum(dim=(0, 1, 2))
        return g_n.sum(dim=1), g_r.sum(dim=1), None, carried, g_c, g_slope, g_offset, g_w, None, None


def _open(v: Tensor, slope: Tensor, offset: Tensor, s: Tensor) -> Tensor:
    """How far each synapse is open, written to `s`."""
    return torch.addcmul(offset.unsqueeze(1), slope.unsqueeze(1), v, out=s).sigmoid_()
