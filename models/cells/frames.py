"""Camera frames to features: crop, resize and a small convolutional network, all inside the graph.

    frame   H, W, 3   8-bit, as the camera gives it; standardised a channel by the network before it gets here
    R, S    h, H and w, W   constant: each row weighs the pixels under one pixel of the smaller picture

    small = R·frame·Sᵀ,   then convolutions of stride 2,   then one linear map

Crop and resize are two matrix products: every pixel counts by the area of it that is seen, as in a box filter. So no
operator is needed whose rounding or alignment differs between runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from statestream.models.cells.base import Cell, State


class FrameEncoder(Cell):
    """A cell without state, from `[..., H, W, 3]` to `[..., units]`.

    Args:
        frame: height and width as they come.
        crop: rows and columns to leave out: top, bottom, left, right.
        size: height and width after resizing.
        channels: of each convolution; each halves height and width.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        frame: tuple[int, int],
        units: int,
        *,
        size: tuple[int, int],
        crop: tuple[int, int, int, int] = (0, 0, 0, 0),
        channels: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__(3, units, ())
        self.input_shape = (*frame, 3)
        top, bottom, left, right = crop
        self.register_buffer("rows", shrink(frame[0], size[0], top, bottom), persistent=False)
        self.register_buffer("columns", shrink(frame[1], size[1], left, right), persistent=False)
        layers: list[nn.Module] = []
        for before, after in zip([3, *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        left_over = [-(-side // 2 ** len(channels)) for side in size]
        self.exit = nn.Linear(channels[-1] * left_over[0] * left_over[1], units)

    def encode(self, x: Tensor) -> Tensor:
        """`[N, H, W, 3]` to `[N, units]`."""
        small = self.rows @ x.permute(0, 3, 1, 2) @ self.columns.t()
        return silu(self.exit(self.convolutions(small).flatten(1)))

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        return self.encode(x_BI), {}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return self.encode(x_BTI.flatten(0, 1)).view(*x_BTI.shape[:2], -1), {}


def shrink(pixels: int, size: int, before: int, after: int) -> Tensor:
    """`[size, pixels]`: averages over `size` equal parts of what is left between the pixels that are cropped.

    Raises:
        ValueError: less is left than `size`.
    """
    left = pixels - before - after
    if not 0 < size <= left:
        raise ValueError(f"size: {size} pixels wanted of {left}: {pixels} less a crop of {before} and {after}")
    edges = before + np.arange(size + 1) * (left / size)
    pixel = np.arange(pixels)
    seen = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return torch.from_numpy(np.clip(seen, 0, None) * (size / left)).float()
