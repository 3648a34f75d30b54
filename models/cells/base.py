"""What every recurrent cell is: a pure step from input, state and elapsed time to output and next state.

    B   batch            x_BI   input              u      what a step needs of its input alone ("prepared")
    T   time             y_BO   output             d_B1   elapsed time / nominal period, dimensionless
    I   input size       state  name → [B, *shape] valid_BT  rows that exist; others leave state untouched
    O   output size

Stacks, encoders with a memory (a convolution's window), and wrappers are cells too. A cell whose recurrence is linear
overrides `unroll` with a parallel scan; `step` remains its definition.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from statestream.models.spec import StateSpec, WiringSpec

State = dict[str, Tensor]
Prepared = tuple[Tensor, ...]


class Cell(nn.Module):
    """A recurrent cell. Subclasses write `advance`, and `prepare` where work can be taken out of the recurrence."""

    def __init__(self, input_size: int, output_size: int, states: tuple[StateSpec, ...]) -> None:
        super().__init__()
        self.input_size = input_size
        self.input_shape: tuple[int, ...] = (input_size,)
        """Of one row; pictures `[H, W, I]` where a cell takes those."""
        self.output_size = output_size
        self.states = states

    def reduce(self, x: Tensor) -> Tensor:
        """What is done to rows before they are standardised, over any leading axes: a step is given what comes of it.

        Nothing, unless there is less to standardise afterwards: averages over numbers of one scale commute with it.
        """
        return x

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        """The part of a step that needs no state, over any leading axes: `x [..., I]`, `d [..., 1]`."""
        return (x,)

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        """The rest of a step: `y_BO` and the next state."""
        raise NotImplementedError

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        """Advance by one sample and by the time that passed before it: `y_BO` and the next state."""
        return self.advance(self.prepare(x_BI, d_B1), state, d_B1)

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """`step` over a sequence, input parts of all steps at once: `y_BTO` and the state after the last valid row."""
        # unbind rather than u[:, k]: the backward pass of an index fills a whole sequence with zeros at every step.
        u_T = zip(*(part.unbind(1) for part in self.prepare(x_BTI, d_BT1)), strict=True)
        rows = [None] * d_BT1.shape[1] if valid_BT is None else valid_BT.unbind(1)
        y_T = []
        for u, d_B1, valid_B in zip(u_T, d_BT1.unbind(1), rows, strict=True):
            y_BO, advanced = self.advance(u, state, d_B1)
            state = advanced if valid_B is None else keep(valid_B, advanced, state)
            y_T.append(y_BO)
        return torch.stack(y_T, dim=1), state

    @property
    def state_parts(self) -> dict[str, int] | None:
        """Parts of each state, 1 if real and 2 if complex; None: not all move as x ← a·x + b.

        |a| ≤ 1; a and b do not depend on that state; if no time passes, a is 1 and b is 0.
        """
        return None if self.states else {}

    def row_wise(self, x_NI: Tensor, after: State, d_N1: Tensor) -> tuple[Tensor, State]:
        """Outputs `y_NO` of rows whose states afterwards are known, and a and b of each state, side by side.

        Only cells with `state_parts` have it. A chunk graph computes the states from a and b, for all rows together.
        """
        if self.states:
            raise NotImplementedError
        return self.step(x_NI, after, d_N1)

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        """How fast this step lets go of the state it starts from: τ in nominal periods, `[B, n]` each.

        Liquid cells have them, and what is made of liquid cells; others have none. They depend on the input: that is
        what is liquid.
        """
        return []

    def wiring(self) -> WiringSpec | None:
        """Neurons and synapses of a neural circuit policy, and of what is made of one; others have none."""
        return None

    def initial_state(self, batch: int) -> State:
        """The state of `batch` new sessions, on the cell's device."""
        weights = chain(self.parameters(), self.buffers())
        device = next(weights, torch.empty(0)).device
        return {
            s.name: torch.tensor(s.initial_array, device=device).expand(batch, *s.shape).contiguous()
            for s in self.states
        }

    def constrain(self) -> None:
        """Put weights back where they are allowed to be; training calls it after each optimiser step."""
        for child in self.children():
            if isinstance(child, Cell):
                child.constrain()


def keep(valid_B: Tensor, advanced: State, state: State) -> State:
    """`advanced` in the rows that are valid, `state` in the others."""
    return {
        name: torch.where(valid_B.view(-1, *[1] * (new.dim() - 1)), new, state[name]) for name, new in advanced.items()
    }


def vector_state(name: str, size: int) -> StateSpec:
    """A state of `size` numbers that starts at zero."""
    return StateSpec(name=name, shape=(size,))
