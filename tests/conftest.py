"""What most tests need: a fake clock, a model in numpy, and the manifest of both it and the tiny bundle."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator

import numpy as np
import pytest

from statestream.models.spec import (
    Array,
    BoolArray,
    Float32Array,
    InputSpec,
    Manifest,
    OutputSpec,
    StateSpec,
    Tensors,
    TimeSpec,
)
from tests.support.turns import alone, beside_others

# What is imported while tests are collected stays: there is nothing to collect until then.
gc.disable()

# The networks of tests are tiny: threads of one operation would only wait for each other, and for the other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# As where the native transport was not built; the tests of it are skipped.
if os.environ.get("WITHOUT_NATIVE"):
    sys.modules["statestream.service.transports.native._core"] = None  # type: ignore[assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, so that none is left over at the end; those that run alone follow the others."""
    items.sort(key=lambda item: (item.get_closest_marker("alone") is not None, item.get_closest_marker("slow") is None))


def pytest_collection_finish() -> None:
    """Exempt what was imported from garbage collection: with torch a quarter of a million objects.

    Later it comes less often: an export alone makes hundreds of thousands of objects that stay until its end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Among several workers, take turns with their tests."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with alone() if item.get_closest_marker("alone") else beside_others():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _shared_exports(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Name one folder for all workers in which `fast_exports` keeps graphs; pytest removes it with its other files."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    shared.mkdir(exist_ok=True)
    os.environ["SHARED_EXPORTS"] = str(shared)


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def leaky_manifest(name: str = "leaky", version: int = 1) -> Manifest:
    """h ← h·exp(−dt) + x, y = 2·h: small enough to be computed by hand, and it notices every row and every dt."""
    return Manifest(
        name=name,
        version=version,
        inputs=(InputSpec(name="x", shape=(2,), labels=("a", "b")),),
        outputs=(OutputSpec(name="y", shape=(2,), std=(1.0,)),),
        states=(StateSpec(name="h", shape=(2,), initial=(0.5,)),),
        time=TimeSpec(nominal_s=0.1, min_s=0.001, max_s=10.0),
    )


class LeakyModel:
    """The leaky model in numpy: a `base.StepModel`."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        self.batches.append(dt_B1.shape)
        h = leak(states["h"], inputs["x"], dt_B1)
        return {"y": 2 * h}, {"h": h}

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        self.batches.append(dt_BT1.shape)
        h, ys = states["h"], []
        for k in range(dt_BT1.shape[1]):
            new = leak(h, inputs["x"][:, k], dt_BT1[:, k])
            ys.append(2 * new)
            h = np.where(valid_BT[:, k : k + 1], new, h)
        return {"y": np.stack(ys, axis=1)}, {"h": h}


def leak(h: Array, x: Array, dt_s: Array | float) -> Array:
    """One step of the leaky model."""
    return np.asarray(h * np.exp(-np.float32(dt_s)) + x, np.float32)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
