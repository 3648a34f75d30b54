"""All states of a linear recurrence at once: an odd–even associative scan (Blelloch, 1990, CMU-CS-90-190).

    x_k = a_k·x_{k−1} + b_k          k runs along axis 1; every batch row and step has an a of its own

    a, b, x   parts   B, T, …   one tensor where numbers are real; real and imaginary part where they are complex
    x0        parts   B, …      the state before the first step
    g         parts   B, T, …   gradient of x

Two steps are one step: (a', b') after (a, b) is (a'·a, a'·b + b'). So each odd step is merged with the even one before
it, half as long a recurrence gives the states at odd steps, and one step from each of those gives the even ones: depth
log T, work 3T. The gradient is the same recurrence backwards in time, so nothing but `a` and `x` is kept for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Parts = tuple[Tensor, ...]


def scan(a: Parts, b: Parts, x0: Parts) -> Parts:
    """`x` of all steps, `[B, T, …]` a part. The shapes of `a` and `b` are the same."""
    x: Parts = _Scan.apply(len(a), *a, *b, *x0)  # type: ignore[no-untyped-call]
    return x


def paused(a: Parts, b: Parts, valid_BT: Tensor | None) -> tuple[Parts, Parts]:
    """`a` and `b` with steps that change nothing, a = 1 and b = 0, in rows that are not valid."""
    if valid_BT is None:
        return a, b
    valid = valid_BT.view(*valid_BT.shape, *[1] * (a[0].dim() - 2))
    one = (1.0, 0.0)[: len(a)]
    a = tuple(torch.where(valid, part, value) for part, value in zip(a, one, strict=True))
    return a, tuple(torch.where(valid, part, 0.0) for part in b)


def times(a: Parts, x: Parts) -> Parts:
    """a·x."""
    if len(a) == 1:
        return (a[0] * x[0],)
    (a_re, a_im), (x_re, x_im) = a, x
    return a_re * x_re - a_im * x_im, a_re * x_im + a_im * x_re


def plus_times(b: Parts, a: Parts, x: Parts) -> Parts:
    """b + a·x."""
    if len(a) == 1:
        return (torch.addcmul(b[0], a[0], x[0]),)
    (a_re, a_im), (x_re, x_im) = a, x
    re = torch.addcmul(torch.addcmul(b[0], a_re, x_re), a_im, x_im, value=-1)
    return re, torch.addcmul(torch.addcmul(b[1], a_re, x_im), a_im, x_re)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: int, *tensors: Tensor) -> Parts:
        a, b, x0 = tensors[:parts], tensors[parts : 2 * parts], tensors[2 * parts :]
        start = plus_times(_at(b, slice(0, 1)), _at(a, slice(0, 1)), tuple(part.unsqueeze(1) for part in x0))
        b = tuple(torch.cat([first, part[:, 1:]], dim=1) for first, part in zip(start, b, strict=True))
        x = _solve(a, b)
        ctx.save_for_backward(*a, *x, *x0)
        return x

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        parts = len(g)
        saved = ctx.saved_tensors
        a, x, x0 = _conjugate(saved[:parts]), saved[parts : 2 * parts], saved[2 * parts :]
        # g_b of step k is g_k + a*_{k+1}·g_b of step k + 1: forwards in reversed time. The last step has none after it.
        after = tuple(torch.cat([torch.zeros_like(p[:, :1]), p[:, 1:].flip(1)], dim=1) for p in a)
        g_b = tuple(p.flip(1) for p in _solve(after, tuple(p.flip(1) for p in g)))
        before = tuple(torch.cat([p0.unsqueeze(1), p[:, :-1]], dim=1) for p0, p in zip(x0, x, strict=True))
        g_a = times(g_b, _conjugate(before))
        g_x0 = times(tuple(p[:, 0] for p in a), tuple(p[:, 0] for p in g_b))
        return None, *g_a, *g_b, *g_x0


def _solve(a: Parts, b: Parts) -> Parts:
    """The recurrence from x = 0 on."""
    steps = b[0].shape[1]
    if steps == 1:
        return b
    odd, even, late = slice(1, None, 2), slice(0, steps - 1, 2), slice(2, None, 2)
    a_odd = _at(a, odd)
    x_odd = _solve(times(a_odd, _at(a, even)), plus_times(_at(b, odd), a_odd, _at(b, even)))
    x_late = plus_times(_at(b, late), _at(a, late), _at(x_odd, slice(0, (steps - 1) // 2)))
    x = tuple(torch.empty_like(part) for part in b)
    for whole, first, at_odd, at_late in zip(x, b, x_odd, x_late, strict=True):
        whole[:, 0], whole[:, odd], whole[:, late] = first[:, 0], at_odd, at_late
    return x


def _at(parts: Parts, steps: slice) -> Parts:
    return tuple(part[:, steps] for part in parts)


def _conjugate(a: Parts) -> Parts:
    return a if len(a) == 1 else (a[0], -a[1])
