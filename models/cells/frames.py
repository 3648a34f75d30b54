"""Camera frames to features: crop, resize and a small convolutional network, all inside the graph.

    frame   H, W, 3         8-bit, as the camera gives it
    R, S    h, H and w, W   constant: each row weighs the pixels under one pixel of the smaller picture
    small   h, w, 3         R·frame·Sᵀ for each channel, which the network then standardises a channel

    small,   then convolutions of stride 2,   then one linear map

Crop and resize are two matrix products: every pixel counts by the area of it that is seen, as in a box filter. So no
operator is needed whose rounding or alignment differs between runtimes.

With `motion` the convolutions have one channel more: how much lighter each pixel of the small picture is than it was in
the picture before. How fast a car turns stands there, and in no single picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from statestream.models.cells.base import Cell, State
from statestream.models.cells.window import WindowCell

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class FrameEncoder(Cell):
    """From `[..., h, w, 3]` to `[..., units]`; without state, but for the picture before where it sees `motion`.

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
        motion: bool = False,
    ) -> None:
        change = Change(size[0] * size[1]) if motion else None
        super().__init__(3, units, change.states if change else ())
        self.input_shape = (*frame, 3)
        top, bottom, left, right = crop
        self.register_buffer("rows", shrink(frame[0], size[0], top, bottom), persistent=False)
        self.register_buffer("columns", shrink(frame[1], size[1], left, right), persistent=False)
        self.change = change
        layers: list[nn.Module] = []
        for before, after in zip([4 if motion else 3, *channels], channels, strict=False):
            layers += [lively(nn.Conv2d(before, after, 3, stride=2, padding=1)), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        left_over = [-(-side // 2 ** len(channels)) for side in size]
        self.exit = lively(nn.Linear(channels[-1] * left_over[0] * left_over[1], units))

    def reduce(self, x: Tensor) -> Tensor:
        """`[..., H, W, 3]` to `[..., h, w, 3]`."""
        rows = (self.rows @ x.flatten(-2)).view(*x.shape[:-3], -1, *x.shape[-2:])
        return (rows.transpose(-1, -2) @ self.columns.t()).transpose(-1, -2)

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        if self.change is None:
            return self._encode(x_BI), {}
        change, state = self.change.step(_grey(x_BI), state, d_B1)
        return self._encode(_beside(x_BI, change)), state

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if self.change is None:
            return self._encode(x_BTI), {}
        change, state = self.change.unroll(_grey(x_BTI), state, d_BT1, valid_BT)
        return self._encode(_beside(x_BTI, change)), state

    def _encode(self, x: Tensor) -> Tensor:
        """`[..., h, w, 3 or 4]` to `[..., units]`."""
        pictures = x.flatten(0, -4).permute(0, 3, 1, 2)
        features: Tensor = self.exit(self.convolutions(pictures).flatten(1))
        return silu(features).view(*x.shape[:-3], -1)


class Change(WindowCell):
    """How much each of `pixels` numbers changed since the row before; before the first, all were 0."""

    def __init__(self, pixels: int) -> None:
        super().__init__(pixels, pixels, taps=2)

    def mix(self, rows: Tensor) -> Tensor:
        return rows[..., 1, :] - rows[..., 0, :]


def _grey(x: Tensor) -> Tensor:
    """`[..., h, w, 3]` to `[..., h * w]`."""
    return x.mean(dim=-1).flatten(-2)


def _beside(x: Tensor, change: Tensor) -> Tensor:
    """`[..., h, w, 3]` and `[..., h * w]` to `[..., h, w, 4]`."""
    return torch.cat([x, change.view(*x.shape[:-1], 1)], dim=-1)


def lively(layer: Layer) -> Layer:
    """The layer with weights that keep the size of what goes through it, and the rectifier after it, at the start.

    By torch's own start a hundredth is left after four layers: a cell behind them learns nothing for many epochs.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


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
