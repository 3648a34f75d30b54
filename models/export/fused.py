"""Fused graphs: states that are matrices advance by one operator of onnxruntime, `com.microsoft` LinearAttention.

It runs the recurrence of `cells.matrix_memory` over a session's rows, which a Scan of plain operators runs row by row.
CausalConvWithState, which came with it, is left out: beside the plain operators of a short window it saved nothing
(measured, 1.32).

A chunk goes through the network all rows at once if every state is a matrix or a window of rows. The operator knows no
`valid`. So rows that exist come first, in their order, and no time passes in the others: their decay is 1 and they
write nothing. What a window keeps is then the rows before the first of those.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from statestream.models.cells.base import Cell, Prepared, State
from statestream.models.cells.composite import CompositeCell
from statestream.models.cells.matrix_memory import MatrixMemory
from statestream.models.cells.window import WindowCell
from statestream.models.training.network import Network


def can_fuse(network: Network) -> bool:
    """Whether a network has states that are matrices, and torch can export an operator that is not ONNX's own."""
    # torch.onnx.ops came with torch 2.8.
    return hasattr(torch.onnx, "ops") and any(isinstance(module, MatrixMemory) for module in network.modules())


def can_unroll(network: Network) -> bool:
    """Whether a chunk can go through the fused network all rows at once."""
    cells = [module for module in network.modules() if isinstance(module, Cell) and module.states]
    leaves = [cell for cell in cells if not isinstance(cell, CompositeCell)]
    return len(network.input_shape) == 1 and all(isinstance(cell, (MatrixMemory, WindowCell)) for cell in leaves)


def fused(network: Network) -> Network:
    """A copy for export alone: its matrices advance by LinearAttention, and its windows take any number of rows."""
    network = deepcopy(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, MatrixMemory):
                parent.register_module(name, FusedMemory(child))
            elif isinstance(child, WindowCell):
                parent.register_module(name, SlicedWindow(child))
    return network


class FusedMemory(Cell):
    """A matrix memory whose recurrence is the operator's."""

    def __init__(self, memory: MatrixMemory) -> None:
        super().__init__(memory.input_size, memory.output_size, memory.states)
        self.memory = memory

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        y_B1O, after = self.unroll(x_BI.unsqueeze(1), state, d_B1.unsqueeze(1))
        return y_B1O.flatten(1), after

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if valid_BT is not None:
            d_BT1 = torch.where(valid_BT.unsqueeze(-1), d_BT1, 0.0)
        return self._attend(self.memory.prepare(x_BTI, d_BT1), state)

    def _attend(self, rows: Prepared, state: State) -> tuple[Tensor, State]:
        """Rows `[B, T, …]` to y `[B, T, H·V]` and S after the last."""
        q, k, v, g, *beta = rows
        S = state["S"]
        heads = S.shape[1]
        q, k, v = (_packed(row, heads) for row in (q, k, v))
        y, S = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::LinearAttention",
            [q, k, v, S, g, *beta],
            {
                "q_num_heads": heads,
                "kv_num_heads": heads,
                "scale": 1.0,
                "update_rule": "gated_delta" if beta else "gated",
            },
            dtypes=(v.dtype, S.dtype),
            shapes=(v.shape, S.shape),
            version=1,
        )
        return y, {"S": S}


def _packed(row: Tensor, heads: int) -> Tensor:
    """`[B, T, H·N]` of `[B, T, H, N]`, or of one for all heads."""
    return (row if row.shape[2] == heads else row.expand(-1, -1, heads, -1)).flatten(-2)


class SlicedWindow(Cell):
    """A window cell over rows of which those that exist come first; each tap is a slice of them."""

    def __init__(self, window: WindowCell) -> None:
        super().__init__(window.input_size, window.output_size, window.states)
        self.window = window

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        return self.window.step(x_BI, state, d_B1)

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        assert valid_BT is not None
        steps, taps = x_BTI.shape[1], self.window.taps
        rows = torch.cat([state["window"], x_BTI], dim=1)
        y_BTO = self.window.mix(torch.stack([rows[:, k : k + steps] for k in range(taps)], dim=2))
        last = valid_BT.sum(dim=1, keepdim=True) + torch.arange(taps - 1)
        return y_BTO, {"window": _take(rows, last)}


class Chunk(nn.Module):
    """`Network.unroll` of a fused network with positional tensors: states, inputs, dt, valid."""

    def __init__(self, network: Network, *, probabilities: bool) -> None:
        super().__init__()
        self.network = network
        self.probabilities = probabilities

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return states after the last row, then outputs of all rows."""
        *states, x_BTF, dt_BT1, valid_BT = tensors
        before = {spec.name: state for spec, state in zip(self.network.states, states, strict=True)}
        place_BT, order_BT, first_BT = _valid_first(valid_BT)
        # A row that is not valid may hold anything, NaN too.
        x_BTF = _take(torch.where(valid_BT.unsqueeze(-1), x_BTF, 0.0), order_BT)
        y_BTK, after = self.network.unroll(x_BTF, before, _take(dt_BT1, order_BT), first_BT)
        y_BTK = _take(y_BTK, place_BT)
        probability = (y_BTK.exp(),) if self.probabilities else ()
        return *(after[spec.name] for spec in self.network.states), y_BTK, *probability


def _valid_first(valid_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each row goes if valid ones come first, which row comes to each place, and which places are valid."""
    index = torch.arange(valid_BT.shape[1])
    passed_BT = valid_BT.long().cumsum(dim=1)
    count_B1 = passed_BT[:, -1:]
    place_BT = torch.where(valid_BT, passed_BT - 1, count_B1 + index - passed_BT)
    order_BT = torch.zeros_like(place_BT).scatter(1, place_BT, index.expand_as(place_BT))
    return place_BT, order_BT, index < count_B1


def _take(rows_BTI: Tensor, index_BT: Tensor) -> Tensor:
    return rows_BTI.gather(1, index_BT.unsqueeze(-1).expand(-1, -1, rows_BTI.shape[-1]))
