"""A small causal Transformer with a KV cache: only to compare with, it is neither trained nor exported here.

    B  batch   T  rows so far   W  width   H  heads   D = W/H      k, v   B, H, T, D   what each layer keeps of a stream

Pre-norm blocks (Vaswani et al., 2017, arXiv:1706.03762; Xiong et al., 2020, arXiv:2002.04745) with rotary positions (Su
et al., 2021, arXiv:2104.09864), so that a stream has no longest length. Unlike a recurrent state, the cache grows by
2·layers·W numbers with every row, and a step attends to all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

Cache = list[tuple[Tensor, Tensor]]
"""`(k, v)` of each layer."""


class Transformer(nn.Module):
    """Rows in, rows out: `forward` over a sequence, `step` by one row, the same function."""

    def __init__(self, input_size: int, output_size: int, *, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.entry = nn.Linear(input_size, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, output_size)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """A whole sequence, each row seeing those before it: `y_BTK`."""
        return self._advance(x_BTF, self.empty_cache(len(x_BTF)))[0]

    def step(self, x_BF: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """One row: `y_BK`, and the cache with this row in it."""
        y_B1K, cache = self._advance(x_BF[:, None], cache)
        return y_B1K[:, 0], cache

    def empty_cache(self, batch: int, rows: int = 0) -> Cache:
        """The cache of a stream of `rows` rows, zeros."""
        found = []
        for block in self.blocks:
            assert isinstance(block, Block)
            shape = (batch, block.heads, rows, block.width // block.heads)
            found.append((torch.zeros(shape), torch.zeros(shape)))
        return found

    def _advance(self, x_BTF: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        z_BTW = self.entry(x_BTF)
        grown = []
        for block, kept in zip(self.blocks, cache, strict=True):
            z_BTW, kept = block(z_BTW, kept)
            grown.append(kept)
        return self.readout(self.norm(z_BTW)), grown


class Block(nn.Module):
    """Attention, then a feed-forward layer, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, z_BTW: Tensor, kept: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Rows after those kept: `z_BTW`, and all that is kept by now."""
        rows = z_BTW.shape[1]
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.attention_norm(z_BTW)).chunk(3, dim=-1)
        )
        first = kept[0].shape[2]
        k, v = torch.cat([kept[0], rotate(k, first)], dim=2), torch.cat([kept[1], v], dim=2)
        seen = torch.ones(rows, first + rows, dtype=torch.bool).tril(first)
        mixed = scaled_dot_product_attention(rotate(q, first), k, v, attn_mask=seen)
        z_BTW = z_BTW + self.project(mixed.transpose(1, 2).flatten(2))
        return z_BTW + self.down(gelu(self.up(self.feed_norm(z_BTW)))), (k, v)


def rotate(x_BHTD: Tensor, first: int) -> Tensor:
    """Each pair of numbers turned by an angle that grows with the row's position, `first` for the first row."""
    half = x_BHTD.shape[-1] // 2
    rate_D = 10_000.0 ** -(torch.arange(half) / half)
    angle_TD = torch.arange(first, first + x_BHTD.shape[2])[:, None] * rate_D
    a, b = x_BHTD.chunk(2, dim=-1)
    sine, cosine = angle_TD.sin(), angle_TD.cos()
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


def cache_bytes(cache: Cache) -> int:
    """What a stream's cache takes."""
    return sum(t.numel() * t.element_size() for pair in cache for t in pair)
