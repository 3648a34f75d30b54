"""Convolutions over the last rows, for streams: the rows before this one are the state.

    K   taps: rows that a convolution sees, this one the last      w   K − 1 rows before: the state, [B, K − 1, I]

Rows count, not the time between them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from statestream.models.cells.base import Cell, State
from statestream.models.spec import StateSpec


class WindowCell(Cell):
    """Subclasses write `mix`."""

    def __init__(self, input_size: int, output_size: int, taps: int) -> None:
        if taps < 2:
            raise ValueError(f"taps: a window needs at least 2 rows, got {taps}")
        super().__init__(input_size, output_size, (StateSpec(name="window", shape=(taps - 1, input_size)),))
        self.taps = taps

    def mix(self, rows: Tensor) -> Tensor:
        """From the last rows `[..., K, I]` to the output `[..., O]`."""
        raise NotImplementedError

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        rows_BKI = torch.cat([state["window"], x_BI.unsqueeze(1)], dim=1)
        return self.mix(rows_BKI), {"window": rows_BKI[:, 1:]}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if valid_BT is None:
            y_BTO, rows = self._convolve(state["window"], x_BTI)
            return y_BTO, {"window": rows[:, x_BTI.shape[1] :]}
        # Valid rows first, in their order, so that a window never sees the others.
        order_BT = torch.argsort((~valid_BT).int(), dim=1, stable=True)
        y_BTO, rows = self._convolve(state["window"], _take(x_BTI, order_BT))
        last = valid_BT.sum(dim=1, keepdim=True) + torch.arange(self.taps - 1, device=rows.device)
        return _take(y_BTO, torch.argsort(order_BT, dim=1)), {"window": _take(rows, last)}

    def _convolve(self, window: Tensor, x_BTI: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.cat([window, x_BTI], dim=1)
        return self.mix(rows.unfold(1, self.taps, 1).transpose(-1, -2)), rows


class Convolution(WindowCell):
    """A 1-D convolution with a SiLU: an encoder of short patterns."""

    def __init__(self, input_size: int, units: int, *, taps: int) -> None:
        super().__init__(input_size, units, taps)
        self.map = nn.Linear(taps * input_size, units)

    def mix(self, rows: Tensor) -> Tensor:
        return silu(linear(rows.flatten(-2), self.map.weight, self.map.bias))


class DepthwiseConvolution(WindowCell):
    """A 1-D convolution of each channel by itself."""

    def __init__(self, channels: int, *, taps: int) -> None:
        super().__init__(channels, channels, taps)
        self.weight = nn.Parameter(torch.empty(taps, channels).uniform_(-1, 1) / math.sqrt(taps))
        self.bias = nn.Parameter(torch.zeros(channels))

    def mix(self, rows: Tensor) -> Tensor:
        # A product with ones, not a sum: see `synapses.DenseSynapses`.
        ones = rows.new_ones(1, self.taps)
        return (ones @ (rows * self.weight)).squeeze(-2) + self.bias


def _take(rows_BTI: Tensor, index_BT: Tensor) -> Tensor:
    return rows_BTI.gather(1, index_BT.unsqueeze(-1).expand(-1, -1, rows_BTI.shape[-1]))
