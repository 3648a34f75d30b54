"""Recursive least squares: weights that go on learning in every session (Haykin, Adaptive Filter Theory).

    φ   B, N      features of the row before, the last of them 1; all 0 before the first row
    e   B, K      its target − what was said to it; 0 where the target is not known
    W   B, N, K   weights: Wᵀφ is added to what is said
    P   B, N, N   covariance of the weights, in units of the noise
    λ             forgetting: weights follow what changes within about 1/(1 − λ) rows

k = Pφ/(1 + φᵀPφ),   W ← W + k eᵀ,   P ← (1 − q)·(P − k (Pφ)ᵀ) + q·I   with q = (1 − λ)²

Dividing P by λ, as the textbook forgets, lets it grow without end in whatever direction nothing is learned from. Here
each row takes it a part q of the way back to where it began, as a Kalman filter of drifting weights does: P lies
between q·I and I for ever, so that neither rounding nor a sensor that stands still can ruin it. A row without a target
changes neither P nor W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from statestream.models.cells.base import Cell, Prepared, State, vector_state
from statestream.models.spec import StateSpec


class LeastSquares(Cell):
    """From `[features, what is said without it, target of the row before]`, NaN if unknown, to what is said with it.

    Args:
        features: N − 1.
        outputs: K.
        forgetting: λ.
    """

    identity: Tensor

    def __init__(self, features: int, outputs: int, forgetting: float) -> None:
        n = features + 1
        states = (
            StateSpec(name="weights", shape=(n, outputs)),
            StateSpec(name="covariance", shape=(n, n)),
            vector_state("features", n),
            vector_state("said", outputs),
        )
        super().__init__(features + 2 * outputs, outputs, states)
        self.sizes = [features, outputs, outputs]
        self.back = (1 - forgetting) ** 2
        self.register_buffer("identity", torch.eye(n), persistent=False)

    def initial_state(self, batch: int) -> State:
        return {s.name: torch.zeros(batch, *s.shape, device=self.identity.device) for s in self.states}

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        row, base, target = torch.split(u[0], self.sizes, dim=-1)
        weights, covariance = self._learned(state, target)
        features = torch.cat([row, torch.ones_like(row[:, :1])], dim=-1)
        said = base + (features.unsqueeze(1) @ weights).squeeze(1)
        return said, {"weights": weights, "covariance": covariance, "features": features, "said": said}

    def _learned(self, state: State, target_BK: Tensor) -> tuple[Tensor, Tensor]:
        """W and P after the row before."""
        phi = state["features"].unsqueeze(-1)
        # The state of a session begins with zeros; P begins with the identity, at the first row.
        begun = phi[:, -1:]
        covariance = torch.where(begun > 0, state["covariance"], self.identity)
        unknown = torch.isnan(target_BK)
        error = torch.where(unknown, 0.0, target_BK - state["said"]).unsqueeze(1)
        v = covariance @ phi
        spread = 1 + phi.transpose(1, 2) @ v
        # A product with itself, so that P stays symmetric to the last bit.
        u = v / torch.sqrt(spread)
        less = (1 - self.back) * (covariance - u * u.transpose(1, 2)) + self.back * self.identity
        nothing = unknown.all(dim=-1).view(-1, 1, 1)
        return state["weights"] + v / spread * error, torch.where(nothing, covariance, less)
