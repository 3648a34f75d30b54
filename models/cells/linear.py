"""An affine map of [input, hidden], kept in two halves so that the input half leaves the recurrence.

z = W_x x + b + W_h h        mask: entries of W_x and W_h that exist (1) or are held at zero (0)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecurrentLinear(nn.Module):
    """`blocks` maps `Linear([x, h])` in one, each Xavier-initialised alone. `mask [out, input + hidden]` thins it."""

    mask: Tensor | None

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, *, blocks: int = 1, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        whole = xavier_linear(input_size + hidden_size, output_size, blocks=blocks)
        self.weight_x = nn.Parameter(whole.weight[:, :input_size].detach().clone())
        self.weight_h = nn.Parameter(whole.weight[:, input_size:].detach().clone())
        self.bias = nn.Parameter(whole.bias.detach().clone())
        self.register_buffer("mask", mask, persistent=False)
        self.constrain()

    def load(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weights of a plain `Linear([x, h])`: `weight [out, input + hidden]`."""
        with torch.no_grad():
            self.weight_x.copy_(weight[:, : self.input_size])
            self.weight_h.copy_(weight[:, self.input_size :])
            self.bias.copy_(bias)
        self.constrain()

    def constrain(self) -> None:
        """Zero what the mask forbids. Held at zero by projection, masked weights cost nothing in a step."""
        if self.mask is not None:
            with torch.no_grad():
                self.weight_x.mul_(self.mask[:, : self.input_size])
                self.weight_h.mul_(self.mask[:, self.input_size :])


def xavier_linear(input_size: int, output_size: int, *, blocks: int = 1) -> nn.Linear:
    """`blocks` maps fused into one `Linear`, each Xavier-initialised as if it stood alone."""
    linear = nn.Linear(input_size, output_size)
    for block in linear.weight.chunk(blocks):
        nn.init.xavier_uniform_(block)
    return linear
