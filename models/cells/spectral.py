"""Spectral encoder: a causal bank of damped oscillators for each sensor, and their log energies.

    symbol   shape        meaning
    x        B, F         signals; log energy turns a gain of a signal into an offset of its features
    d        B, 1         elapsed time / nominal period
    G        F·K          oscillators: K frequencies for each signal, signal by signal, in flat vectors
    f        K            frequency of each, cycles a nominal period; 0 follows the signal's level
    β        scalar       bandwidth, cycles a nominal period: an oscillator forgets by 2πβ a period
    τ        scalar       smoothing of the energies, nominal periods
    λ        B, G complex exp((−2πβ + 2πi·f)·d), λ₁ the same of d = 1
    u        B, G         κ·x: what z comes to if x stays, up to its phase; κ = (1 − |λ₁|)/|1 − λ₁|
    z        B, G complex state: each oscillator's swing, as real and imaginary halves, [B, 2G]
    a        B, 1         exp(−d/τ)
    p        B, G         state: energy, summed with weights that fade
    n        B, 1         state: the sum of these weights, 1 after long, so that the first rows are averages too

    z ← u + λ·(z − u),   p ← |z|² + a·(p − |z|²),   n ← 1 + a·(n − 1),   feature = log(10⁻⁶ + p/n)

x counts as constant since the row before. So a missing row matters only as far as its value differs from the one after
it, and a row that repeats a value changes nothing. Were each row an impulse, irregular rows would spread the energy of
slow movements over all frequencies. All states start at 0, and all are x ← a·x + b, so that a sequence is three scans.
For z and n two gaps are one gap, exactly; for p where z is at rest, as |z|² fades during a gap and counts as it is at
the gap's end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statestream.models.cells.base import Cell, State, vector_state
from statestream.models.cells.scan import Parts, paused, scan

FLOOR = 1e-6
"""Energy of silence, in units of a signal's variance over the training data."""
LOWEST, HIGHEST, COUNT = 0.02, 0.46, 12
"""Frequencies by default, cycles a nominal period: up to nearly half the rate of the rows."""
BANDWIDTH, SMOOTHING = 0.015, 50.0
"""β and τ by default."""
LEAST_WEIGHT = 1e-12
"""Least n to divide by: at the start of a session n may be 0."""

Move = Callable[[str, Parts, Tensor | float], Parts]
"""`move(state, a, u)` takes a state to a·state + (1 − a)·u; a may be complex."""


class SpectralEncoder(Cell):
    """From signals `[..., F]` to their log energies `[..., F·K]`.

    Args:
        frequencies: f of each oscillator, cycles a nominal period.
        bandwidth: β.
        smoothing: τ.
        learned: frequencies are weights. They start as given, and weight decay pulls them back there.
    """

    spread: Tensor
    silence: Tensor
    start: Tensor
    shift: Tensor | None

    def __init__(
        self, signals: int, frequencies: Sequence[float], *, bandwidth: float, smoothing: float, learned: bool = False
    ) -> None:
        count = len(frequencies)
        size = signals * count
        super().__init__(signals, size, (vector_state("z", 2 * size), vector_state("p", size), vector_state("n", 1)))
        self.decay, self.smoothing = 2 * math.pi * bandwidth, smoothing
        self.register_buffer("start", torch.tensor(frequencies, dtype=torch.float32), persistent=False)
        self.register_parameter("shift", nn.Parameter(torch.zeros(count)) if learned else None)
        # A product hands each signal to its oscillators: what scales the signals is folded into it at export.
        self.register_buffer("spread", torch.eye(signals).repeat_interleave(count, dim=0), persistent=False)
        self.register_buffer("silence", torch.zeros(size), persistent=False)

    def frequencies(self) -> Tensor:
        """`[K]`, cycles a nominal period."""
        return self.start if self.shift is None else self.start * torch.exp(self.shift)

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        after = State()

        def move(name: str, a: Parts, u: Tensor | float) -> Parts:
            x = _parts(state[name], len(a))
            if len(a) == 1:
                after[name] = a[0] * x[0] + (1 - a[0]) * u
                return (after[name],)
            (a_re, a_im), (x_re, x_im) = a, x
            re = a_re * x_re - a_im * x_im + (1 - a_re) * u
            # a_im·x_re − a_im·u in two operators.
            im = a_re * x_im + a_im * (x_re - u)
            after[name] = torch.cat((re, im), dim=-1)
            return re, im

        return self._features(x_BI, d_B1, move), after

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        after = State()

        def move(name: str, a: Parts, u: Tensor | float) -> Parts:
            b = _drive(a, u)
            a = tuple(part.expand_as(b[0]) for part in a)
            moved = scan(*paused(a, b, valid_BT), _parts(state[name], len(a)))
            after[name] = torch.cat([part[:, -1] for part in moved], dim=-1)
            return moved

        return self._features(x_BTI, d_BT1, move), after

    @property
    def state_parts(self) -> dict[str, int] | None:
        return {"z": 2, "p": 1, "n": 1}

    def row_wise(self, x_NI: Tensor, after: State, d_N1: Tensor) -> tuple[Tensor, State]:
        moves = State()

        def move(name: str, a: Parts, u: Tensor | float) -> Parts:
            b = _drive(a, u)
            moves[name] = torch.cat([*(part.expand_as(b[0]) for part in a), *b], dim=-1)
            return _parts(after[name], len(a))

        return self._features(x_NI, d_N1, move), moves

    def _features(self, x: Tensor, d: Tensor, move: Move) -> Tensor:
        omega = self._omega()
        size, angle = torch.exp(d * -self.decay), d * omega
        u = linear(x, self.spread * self._reach(omega).unsqueeze(-1), self.silence)
        re, im = move("z", (size * torch.cos(angle), size * torch.sin(angle)), u)
        left = torch.exp(d * (-1 / self.smoothing))
        (p,) = move("p", (left,), re * re + im * im)
        (n,) = move("n", (left,), 1.0)
        return torch.log(FLOOR + p / n.clamp(min=LEAST_WEIGHT))

    def _reach(self, omega_G: Tensor) -> Tensor:
        """κ, `[G]`."""
        size = math.exp(-self.decay)
        return (1 - size) * torch.rsqrt((1 - size) ** 2 + 4 * size * torch.sin(omega_G / 2) ** 2)

    def _omega(self) -> Tensor:
        """`[G]`, radians a nominal period."""
        return (2 * math.pi * self.frequencies()).repeat(self.input_size)


def _parts(state: Tensor, count: int) -> Parts:
    return state.chunk(count, dim=-1) if count > 1 else (state,)


def _drive(a: Parts, u: Tensor | float) -> Parts:
    """(1 − a)·u."""
    first, *others = a
    return ((1 - first) * u, *(-part * u for part in others))
