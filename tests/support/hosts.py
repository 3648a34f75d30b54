"""Hosts of the leaky model without transport or runtime: servers as far as sessions and stores are concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from statestream.models.spec import Array, BoolArray, Float32Array, Manifest, Tensors, WiringSpec
from statestream.service.batching.step_columns import StepColumns
from statestream.service.config import ServerConfig
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment, OpenRequest
from statestream.service.control.persistence import Persistence
from statestream.service.durability.stores.base import Store
from statestream.service.errors import StatestreamError
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason
from tests.conftest import FakeClock, LeakyModel, leak, leaky_manifest


@dataclass
class FakeSubscriber:
    """A `subscriber.SessionSubscriber` that remembers what it heard."""

    lost_channels: dict[int, DetachReason] = field(default_factory=dict)
    durable: dict[int, int] = field(default_factory=dict)
    lags_s: list[float] = field(default_factory=list)
    fallen: list[tuple[int, str]] = field(default_factory=list)
    places: dict[int, tuple[Any, int]] = field(default_factory=dict)
    rows: int = 0

    def deliver(self, runner: Any, turn: Any, start: int, stop: int, outputs: tuple[str, ...]) -> None:
        self.rows += stop - start

    def moved(self, channel: int, runner: Any, slot: int) -> None:
        self.places[channel] = (runner, slot)

    def lost(self, channel: int, reason: DetachReason, rows: int, row_bytes: int) -> None:
        self.lost_channels[channel] = reason

    def reset(self, channel: int) -> None:
        pass

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        raise error

    def progress(self, channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> None:
        assert all(durable <= settled for durable, settled in zip(durable_seq, settled_seq, strict=True))
        self.durable |= dict(zip(channels, durable_seq, strict=True))
        self.lags_s.append(lag_s)

    def fell_back(self, channel: int, text: str) -> None:
        self.fallen.append((channel, text))


async def make_host(
    store: Store | None, clock: FakeClock, *, models: Sequence[str] = ("leaky",), **config: Any
) -> Host:
    """A host that ticks only when it is told to (`Persistence.commit`)."""
    host = Host.build(ServerConfig(**({"store_tick_s": 3600.0} | config)), clock, store)
    for name in models:
        host.models.add(*leaky_bundle(leaky_manifest(name)))
    if host.persistence is not None:
        await host.persistence.start()
        ticking = host.persistence._ticking
        assert ticking is not None
        ticking.cancel()
    return host


class Amplified(LeakyModel):
    """The leaky model of inputs that are `gain` times as large, its state by any name: other weights, other states."""

    def __init__(self, manifest: Manifest, gain: float, batch_s: float) -> None:
        super().__init__()
        self.manifest = manifest
        self._gain = np.float32(gain)
        self._state = manifest.states[0].name
        self.cost = SimpleNamespace(step_s=1e-6, batch_s=batch_s)
        self.provider = "numpy"
        self.native = False
        self.fused = False

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        y, after = super().step({"x": inputs["x"] * self._gain}, dt_B1, {"h": states[self._state]})
        return self._named(y, after)

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        y, after = super().chunk({"x": inputs["x"] * self._gain}, dt_BT1, valid_BT, {"h": states[self._state]})
        return self._named(y, after)

    def initial(self, batch: int) -> dict[str, Array]:
        return {self._state: np.full((batch, 2), 0.5, np.float32)}

    def _named(self, y: Tensors, after: Tensors) -> tuple[Tensors, Tensors]:
        """Outputs and states by the manifest's names; outputs that the leaky model has not are ones."""
        rows = y["y"].shape[:-1]
        more = {t.name: np.ones((*rows, *t.shape), np.float32) for t in self.manifest.outputs if t.name != "y"}
        return {**y, **more}, {self._state: after["h"]}


def leaky_bundle(manifest: Manifest, gain: float = 1.0, *, batch_s: float = 1e-5) -> tuple[Any, Any]:
    """What `BundleRepository.load` gives, without files; a turn of a model that takes long runs in a thread."""
    return SimpleNamespace(manifest=manifest), Amplified(manifest, gain, batch_s)


def be_wired(runner: ModelRunner) -> str:
    """Have a model say that it is a neural circuit policy; its name and version."""
    wiring = WiringSpec(layers={"sensory": 2, "motor": 1}, synapses=((0, 2, 1), (1, 2, -1)))
    runner.manifest = runner.manifest.model_copy(update={"wiring": wiring})
    return runner.manifest.ref


def keeper_of(host: Host) -> Persistence:
    assert host.persistence is not None
    return host.persistence


def asks(session_id: str, **more: Any) -> OpenRequest:
    """A Request with defaults."""
    values: dict[str, Any] = {
        "model": "leaky",
        "version": 0,
        "may_create": True,
        "may_resume": True,
        "take_over": False,
        "outputs": (),
    }
    return OpenRequest(session_id=session_id, **(values | more))


async def advance(held: Attachment, rows: int) -> None:
    """Rows of ones, the next ones of the session."""
    if not rows:
        return
    first = int(held.runner.table.settled_seq[held.slot]) + 1
    seqs = list(range(first, first + rows))
    held.runner.offer([held.slot] * rows, StepColumns(seqs, columns=[("x", np.ones((rows, 2), "<f4").tobytes())]))
    await held.runner.settled(held.slot)


def state_after(rows: int) -> Array:
    """The leaky model's state after so many rows of ones."""
    h: Array = np.full(2, 0.5, np.float32)
    for _ in range(rows):
        h = leak(h, np.ones(2, np.float32), 0.1)
    return h
