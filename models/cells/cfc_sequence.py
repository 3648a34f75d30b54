"""A gated CfC over a whole sequence, its gradient by hand: what training runs, several times faster than autograd's.

    T, B, H, P   steps, batch, units, hidden units of the backbone
    u, d         T, B, P and T, B, 1    input part of each step; elapsed time / nominal period
    W, V, b      P, H; 4H, P; 4H        recurrent weights; heads f1, f2, a, b, and their bias
    k            T, B, P                hidden layer, tanh(u + W h); without a backbone the heads are u + W h themselves
    f1, f2, t    T, B, H                as in `cfc`
    h            T, B, H                f1 + t·(f2 − f1), or f1 + t·f2 without a gate on f1
    J            T, B, 4, H             derivative of h by each head

In the loop backwards only the state's gradient is carried: two matrix products and two elementwise operations a step. J
is made for a few steps at once, which stay in the processor's cache. The weights' gradients follow after the loop, one
matrix product each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 4
"""Steps whose derivatives are made at once: their tensors fit a cache of half a megabyte in usual batches."""

_MINUS_ONE = torch.tensor(-1.0)
_bf16: ContextVar[bool] = ContextVar("bf16", default=False)


class SequenceWeights(NamedTuple):
    """A gated CfC without its input part."""

    W: Tensor
    """`[P, H]`, or `[4H, H]` without a backbone."""
    V: Tensor | None
    """None, and b too: there is no backbone."""
    b: Tensor | None
    gate_both: bool
    """h = f1·(1 − t) + f2·t; otherwise f1 + t·f2."""


def gated_sequence(
    u_BTP: Tensor, d_BT1: Tensor, h_BH: Tensor, weights: SequenceWeights, valid_BT: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`y_BTH` of all steps, and the state after the last valid one."""
    valid = None if valid_BT is None else valid_BT.t().unsqueeze(-1)
    y_TBH, last = _Gated.apply(  # type: ignore[no-untyped-call]
        u_BTP.transpose(0, 1), d_BT1.transpose(0, 1), h_BH, *weights[:3], valid, weights.gate_both
    )
    return y_TBH.transpose(0, 1), last


@contextmanager
def bf16_gradients(*, enabled: bool = True) -> Iterator[None]:
    """Context in which sequences multiply matrices backwards in bfloat16.

    Forwards they use float32.
    """
    token = _bf16.set(enabled)
    try:
        yield
    finally:
        _bf16.reset(token)


def gradient_dtype(forwards: Tensor) -> torch.dtype:
    """Type of the matrices that are multiplied backwards."""
    return torch.bfloat16 if _bf16.get() else forwards.dtype


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        d: Tensor,
        h: Tensor,
        W: Tensor,
        V: Tensor | None,
        b: Tensor | None,
        valid: Tensor | None,
        gate_both: bool,
    ) -> tuple[Tensor, Tensor]:
        steps, batch, units = len(u), len(h), h.shape[1]
        k = u.new_empty(steps, batch, u.shape[-1])
        z = k if V is None else u.new_empty(steps, batch, 4 * units)
        before, y = u.new_empty(2, steps, batch, units)
        Wt, Vt = W.t(), None if V is None else V.t()
        rows = zip(u, d, k, z, before, y, [None] * steps if valid is None else valid, strict=True)
        for u_k, d_k, k_k, z_k, before_k, y_k, valid_k in rows:
            before_k.copy_(h)
            torch.addmm(u_k, h, Wt, out=k_k)
            if Vt is not None and b is not None:
                torch.addmm(b, tanh(k_k, out=k_k), Vt, out=z_k)
            gate(z_k, d_k, y_k, gate_both)
            h = y_k if valid_k is None else torch.where(valid_k, y_k, h)
        ctx.save_for_backward(d, before, k, z, W, V, valid)
        ctx.gate_both, ctx.dtype = gate_both, gradient_dtype(z)
        return y, h.clone()

    @staticmethod
    def backward(ctx: Any, g_y: Tensor, g_last: Tensor) -> tuple[Tensor | None, ...]:
        d, before, k, z, W, V, valid = ctx.saved_tensors
        dtype = ctx.dtype
        g_z, g_k, g = torch.empty_like(z, dtype=dtype), torch.empty_like(k, dtype=dtype), g_last.to(dtype)
        W = W.to(dtype)
        if V is not None:
            V, hidden = V.to(dtype), (1 - k * k).to(dtype)
        for step, J in last_first(len(z), lambda steps: derivatives(z[steps], d[steps], ctx.gate_both)):
            through = g if valid is None else torch.where(valid[step], g, 0.0)
            at = g_z[step]
            torch.mul(J, (through + g_y[step]).unsqueeze(1), out=at.view(J.shape))
            if V is not None:
                torch.mm(at, V, out=g_k[step]).mul_(hidden[step])
                at = g_k[step]
            g = at @ W if valid is None else torch.addmm(torch.where(valid[step], 0.0, g), at, W)
        if V is None:
            return g_z.to(z.dtype), None, g.to(z.dtype), outer(g_z, before), None, None, None, None
        g_b = g_z.sum(dim=(0, 1), dtype=z.dtype)
        return g_k.to(z.dtype), None, g.to(z.dtype), outer(g_k, before), outer(g_z, k), g_b, None, None


def tanh(x: Tensor, out: Tensor) -> Tensor:
    """tanh as 2σ(2x) − 1, to 2e-7.

    torch computes it in a third of the time of its own tanh on some processors. Steps have torch's.
    """
    return torch.add(_MINUS_ONE, torch.mul(x, 2, out=out).sigmoid_(), alpha=2, out=out)


def gate(z: Tensor, d: Tensor, y: Tensor, gate_both: bool) -> None:
    """One step's heads in place: tanh of f1 and f2, and t instead of the offset b; the new state into `y`."""
    units = y.shape[1]
    f, slope, offset = z.split_with_sizes([2 * units, units, units], dim=1)
    f1, f2 = tanh(f, out=f).chunk(2, dim=1)
    t = torch.addcmul(offset, slope, d, out=offset).sigmoid_()
    torch.lerp(f1, f2, t, out=y) if gate_both else torch.addcmul(f1, f2, t, out=y)


def last_first(steps: int, derive: Callable[[slice], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield the steps from the last to the first, with their derivatives.

    `derive` makes those of a block of steps.
    """
    for start in range((steps - 1) // BLOCK * BLOCK, -1, -BLOCK):
        found = derive(slice(start, start + BLOCK))
        for step in range(len(found) - 1, -1, -1):
            yield start + step, found[step]


def derivatives(z: Tensor, d: Tensor, gate_both: bool) -> Tensor:
    """J of each step, from `z` as `gate` leaves it."""
    f1, f2, _, t = z.chunk(4, dim=-1)
    bend = t * (1 - t) * (f2 - f1 if gate_both else f2)
    by_f1 = 1 - f1 * f1
    by = ((1 - t) * by_f1 if gate_both else by_f1, t * (1 - f2 * f2), bend * d, bend)
    return torch.stack(by, dim=2)


def outer(g: Tensor, x: Tensor) -> Tensor:
    """Gradient of a matrix over all steps and the batch."""
    return (g.flatten(0, 1).t() @ x.to(g.dtype).flatten(0, 1)).to(x.dtype)
