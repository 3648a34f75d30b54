"""The last value of each channel and its age, for sensors that tick at rates of their own.

x      NaN where a channel was not measured at this instant
value  B, F   the newest value measured, 0 (the training data's mean, once standardised) before the first
age    B, F   nominal periods since it was measured; at most `OLDEST`, which is also where it starts
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from statestream.models.cells.base import Cell, State, vector_state
from statestream.models.spec import StateSpec

OLDEST = 1000.0


class Hold(Cell):
    """From `[..., F]`, in which elements may be NaN, to `[..., 2F]`: values, then ages on a logarithmic scale to 1.

    Args:
        ages: without them, values alone `[..., F]`.
    """

    def __init__(self, features: int, *, ages: bool = True) -> None:
        age = StateSpec(name="age", shape=(features,), initial=(OLDEST,))
        states = (vector_state("value", features), *((age,) if ages else ()))
        super().__init__(features, (1 + ages) * features, states)
        self.ages = ages

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        missing = torch.isnan(x_BI)
        value = torch.where(missing, state["value"], x_BI)
        if not self.ages:
            return value, {"value": value}
        age = torch.where(missing, (state["age"] + d_B1).clamp(max=OLDEST), torch.zeros_like(x_BI))
        return _seen(value, age), {"value": value, "age": age}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        measured = ~torch.isnan(x_BTI)
        # Differences of a long sum: float32 would lose the age of a value measured a moment ago.
        passed = d_BT1.double()
        if valid_BT is not None:
            measured = measured & valid_BT.unsqueeze(-1)
            passed = passed * valid_BT.unsqueeze(-1)
        clock = passed.cumsum(dim=1).expand(x_BTI.shape)
        row = torch.arange(x_BTI.shape[1], device=x_BTI.device).view(1, -1, 1)
        newest = torch.where(measured, row, -1).cummax(dim=1).values
        before, source = newest < 0, newest.clamp(min=0)
        value = torch.where(before, state["value"].unsqueeze(1), x_BTI.gather(1, source))
        if not self.ages:
            return value, {"value": value[:, -1]}
        since = torch.where(before, state["age"].unsqueeze(1) + clock, clock - clock.gather(1, source))
        age = since.clamp(max=OLDEST).to(x_BTI.dtype)
        return _seen(value, age), {"value": value[:, -1], "age": age[:, -1]}


def _seen(value: Tensor, age: Tensor) -> Tensor:
    return torch.cat([value, torch.log1p(age) / math.log1p(OLDEST)], dim=-1)
