"""Recurrence of a state that is a matrix, written and read by keys.

Mamba-2 and the gated delta rule share it. `export.fused` leaves it to an operator of the runtime.

    symbol   shape          meaning
    H, K, V  sizes          heads, numbers of a key, numbers of a value
    S        B, H, K, V     state
    q, k, v  B, H, K/K/V    what is read by, what is written by, what is written; q and k may be one for all heads
    g        B, H           log of what is left of S after the step's time, ≤ 0
    β        B, H           part of the old value under k that the new one replaces; without β it is added

    S ← exp(g)·S;   v ← β·(v − kᵀS) where there is a β;   S ← S + k vᵀ,   y = qᵀS

A sequence goes by blocks of L rows, as in SSD (arXiv:2405.21060) and, where there is a β, in the WY form of the delta
rule (Yang et al., 2024, arXiv:2406.06484). Inside a block all is matrix products:

    D_ij     exp(g_{j+1} + … + g_i) for j ≤ i, else 0        c_i   exp(g_1 + … + g_i)
    w        what the rows write: (I + A)w = β·(v − c·k S₀) with A_ij = β_i·D_ij·(k_i·k_j) for j < i; without β, v
    y        (D∘q kᵀ)w + c·q S₀,   and S₀ of the next block: c_L·S₀ + kᵀ(D_L·w)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from statestream.models.cells.base import Cell, Prepared, State
from statestream.models.spec import StateSpec

BLOCK = 16
"""Rows of a block: inside, work grows by its square; between, blocks follow one another."""
LANES = 16
"""Float32 numbers in the widest vectors of processors."""


class MatrixMemory(Cell):
    """Subclasses write `prepare`: `q, k [..., H, K]`, `v [..., H, V]`, `g [..., H]`, and, if any, `β [..., H]`."""

    def __init__(self, input_size: int, *, heads: int, keys: int, width: int) -> None:
        super().__init__(input_size, heads * width, (StateSpec(name="S", shape=(heads, keys, width)),))

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        q, k, v, g, *beta = u
        S = torch.exp(g)[..., None, None] * state["S"]
        if beta:
            v = beta[0].unsqueeze(-1) * (v - (k.unsqueeze(-2) @ S).squeeze(-2))
        S = S + k.unsqueeze(-1) * v.unsqueeze(-2)
        return (q.unsqueeze(-2) @ S).flatten(-3), {"S": S}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        rows = self.prepare(x_BTI, d_BT1)
        if valid_BT is not None:
            # q too: outputs of these rows are no one's, but their gradient is 0 only where they are numbers.
            rows = tuple(torch.where(valid_BT.view(*valid_BT.shape, *[1] * (r.dim() - 2)), r, 0.0) for r in rows)
        y_BHTV, S = _by_blocks(tuple(_heads_first(row) for row in rows), state["S"])
        return y_BHTV[:, :, : d_BT1.shape[1]].transpose(1, 2).flatten(-2), {"S": S}


def _heads_first(row: Tensor) -> Tensor:
    """`[B, H, T / L, L, …]` of `[B, T, H, …]`; rows that fill the last block are 0, which leaves S as it is."""
    steps = row.shape[1]
    block = min(BLOCK, steps)
    row = pad(row, (0, 0) * (row.dim() - 2) + (0, -steps % block))
    return row.reshape(len(row), -1, block, *row.shape[2:]).movedim(3, 1)


def _by_blocks(rows: Prepared, S: Tensor) -> tuple[Tensor, Tensor]:
    """`y [B, H, T, V]`, rows that fill the last block included, and S after them."""
    q, k, v, g, *beta = rows
    D = _decays(g)
    c = torch.exp(g.cumsum(dim=-1)).unsqueeze(-1)
    w, scores, by_start = v, D * (q @ k.mT), c * q
    by_end = D[..., -1, :].unsqueeze(-1) * k
    reach = None
    if beta:
        b = beta[0].unsqueeze(-1)
        # The diagonal is not read: it is 1.
        solved = torch.linalg.solve_triangular(
            b * D * (k @ k.mT), torch.cat([b * v, (b * c) * k], dim=-1), upper=False, unitriangular=True
        )
        w, reach = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    y = []
    for n in range(v.shape[2]):
        w_n = w[:, :, n] if reach is None else w[:, :, n] - reach[:, :, n] @ S
        y.append(scores[:, :, n] @ w_n + by_start[:, :, n] @ S)
        S = c[:, :, n, -1:] * S + by_end[:, :, n].mT @ w_n
    return torch.cat(y, dim=2), S


def _decays(g: Tensor) -> Tensor:
    """D, `[..., L, L]`: each sum by itself, as a difference of two would lose what a long gap's is too large for."""
    block = g.shape[-1]
    later = torch.ones(block, block, dtype=torch.bool, device=g.device).tril(-1)
    sums = torch.where(later, g.unsqueeze(-1), 0.0).cumsum(dim=-2)
    return torch.where(later.mT, -torch.inf, sums).exp()


def by_heads(x: Tensor, heads: int) -> Tensor:
    """`[..., H, N / H]` of `[..., N]`."""
    return x.reshape(*x.shape[:-1], heads, -1)


def even_softplus(x: Tensor) -> Tensor:
    """softplus of a few numbers a row, the same whatever stands beside them.

    onnxruntime rounds it otherwise in a vector of a processor's width than in what is left over of one: a session with
    fewer numbers than a width would differ by whether it shares its batch, and a decay adds that up. So each fills one.
    """
    return softplus(x.unsqueeze(-1) * x.new_ones(LANES))[..., 0]


def unit_length(x: Tensor) -> Tensor:
    """Each vector on the last axis, divided by its length."""
    size = x.shape[-1]
    return root_mean_square_norm(x, x.new_full((size,), size**-0.5), 1e-6 / size)


def root_mean_square_norm(x: Tensor, weight: Tensor, floor: float = 1e-5) -> Tensor:
    """Vectors on the last axis over their root mean square, times `weight`.

    In this order of operations it is one operator of onnxruntime, SimplifiedLayerNormalization. That rounds a row alike
    whatever its batch; a mean of its own would not.
    """
    return x / torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + floor) * weight
