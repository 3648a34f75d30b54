"""Small causal Transformer with a KV cache, for comparison only: neither trained nor exported.

    B  batch   T  rows so far   W  width   H  heads   D = W/H      k, v   B, H, T, D   cache of each layer

Pre-norm blocks (Vaswani et al., 2017, arXiv:1706.03762; Xiong et al., 2020, arXiv:2002.04745) with rotary positions (Su
et al., 2021, arXiv:2104.09864), so that a stream's length is unlimited. Unlike a recurrent state, the cache grows by
2·layers·W numbers with every row, and a step attends to all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

Cache = list[tuple[Tensor, Tensor]]
"""`(k, v)` of each layer."""


class Transformer(nn.Module):
    """A causal Transformer.

    `forward` over a sequence and `step` by one row are the same function.
    """

    def __init__(self, input_size: int, output_size: int, *, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.entry = nn.Linear(input_size, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, output_size)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Run a whole sequence, each row attending to itself and earlier ones.

        Returns `y_BTK`.
        """
        return self._advance(x_BTF, self.empty_cache(len(x_BTF)))[0]

    def step(self, x_BF: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Advance by one row; returns `y_BK` and the cache with this row."""
        y_B1K, cache = self._advance(x_BF[:, None], cache)
        return y_B1K[:, 0], cache

    def empty_cache(self, batch: int, rows: int = 0) -> Cache:
        """Build a cache of `rows` rows, all zeros."""
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
    """A block of attention and a feed-forward layer, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, z_BTW: Tensor, kept: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Process rows after the cached ones; returns `z_BTW` and the extended cache."""
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
    """Rotary encoding: rotate pairs of numbers by an angle proportional to the row's position, from `first` on."""
    half = x_BHTD.shape[-1] // 2
    rate_D = 10_000.0 ** -(torch.arange(half) / half)
    angle_TD = torch.arange(first, first + x_BHTD.shape[2])[:, None] * rate_D
    a, b = x_BHTD.chunk(2, dim=-1)
    sine, cosine = angle_TD.sin(), angle_TD.cos()
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


def cache_bytes(cache: Cache) -> int:
    """Bytes of a stream's cache."""
    return sum(t.numel() * t.element_size() for pair in cache for t in pair)
