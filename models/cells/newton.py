"""Solves a nonlinear recurrence for all steps at once, by Newton's iteration.

Every number of the state moves by itself (DEER: Lim et al., 2024, arXiv:2309.12252).

    x_k = f_k(x_{k−1})   k runs along axis 1; f_k is elementwise, so that its Jacobian is diagonal
    x̂     B, T, S        guess: the states before each step
    J     B, T, S        ∂f_k/∂x at x̂
    x0    B, S           the state before the first step

Each round scans the recurrence linearised around the guess, x ← J·x + (f(x̂) − J·x̂), whose states are the next guess.
Each round squares the error, and after k rounds the first k steps are exact. Only the last round is differentiated,
with J and x̂ held: where x̂ solves the recurrence, that is its gradient (x_k depends on weights by f_k, and by J on the
step before).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from statestream.models.cells.scan import scan

ROUNDS = 16
"""Most rounds before the caller has to go step by step; with few it would be slower than the steps."""
NEAR = 1e-4
"""Move of a round, relative to the largest state (at least 1), after which one more round ends it."""
WIDEST = 1024
"""Numbers of all states of a batch up to which a CPU core is faster so than step by step, as calls then cost more than
numbers; other devices always are."""

Step = Callable[[Tensor], Tensor]
"""From the states before each step, `[B, T, S]`, to those after; elementwise in them."""


def solve(step: Step, x0_BS: Tensor, steps: int) -> Tensor | None:
    """The states after each step, `[B, T, S]`; None if they have not come to rest, or where steps are faster."""
    if x0_BS.is_cpu and x0_BS.numel() > WIDEST:
        return None
    before = x0_BS.detach().unsqueeze(1).expand(-1, steps, -1)
    for _ in range(ROUNDS):
        guess = before
        after = _round(step, before, x0_BS.detach()).detach()
        largest = after.abs().max()
        if not largest.isfinite():
            return None
        before = torch.cat([before[:, :1], after[:, :-1]], dim=1)
        if (before - guess).abs().max() <= NEAR * largest.clamp(min=1.0):
            return _round(step, before, x0_BS)
    return None


def _round(step: Step, before: Tensor, x0_BS: Tensor) -> Tensor:
    with torch.enable_grad():
        before = before.detach().requires_grad_()
        after = step(before)
        (slope,) = torch.autograd.grad(after.sum(), before, retain_graph=True)
    before = before.detach()
    return scan((slope,), (after - slope * before,), (x0_BS,))[0]
