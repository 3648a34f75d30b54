"""A model of a camera and a second sensor, made without torch, and pictures for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import TensorProto, helper

from statestream.models import jpeg
from statestream.models.bundle import CHUNK, STEP, Bundle, Golden, write_bundle
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.spec import Array, InputSpec, Manifest, OutputSpec, StateSpec, TimeSpec

HEIGHT, WIDTH = 24, 32
SHAPE = (HEIGHT, WIDTH, 3)
NOMINAL_S = 0.05
STEP_NS = 50_000_000
WEIGHTS = np.random.default_rng(7).normal(size=(HEIGHT * WIDTH * 3, 2)).astype(np.float32) / 2**14


@dataclass(frozen=True)
class Camera:
    """How a model's camera sends, and whether another sensor is beside it."""

    encoding: Literal["raw", "jpeg"] = "jpeg"
    colours: Literal["rgb", "bgr"] = "rgb"
    imu: bool = True


def camera_manifest(name: str = "camera", camera: Camera = Camera()) -> Manifest:
    """h ← h·exp(−dt) + weights·pixels + imu, y = h: every pixel counts, by its place and colour."""
    eye = InputSpec(name="camera", shape=SHAPE, dtype="uint8", encoding=camera.encoding, colours=camera.colours)
    return Manifest(
        name=name,
        version=1,
        inputs=(eye, *((InputSpec(name="imu", shape=(2,)),) if camera.imu else ())),
        outputs=(OutputSpec(name="y", shape=(2,), std=(1.0,), task="regression"),),
        states=(StateSpec(name="h", shape=(2,)),),
        time=TimeSpec(nominal_s=NOMINAL_S, min_s=0.001, max_s=10.0),
    )


def camera_rollout(pictures: Array, imu: Array, dt_s: Array) -> Array:
    """`[time, 2]` what the model says of `[time, H, W, 3]`, `[time, 2]` and `[time]`."""
    h, y = np.zeros(2, np.float32), []
    for picture, more, dt in zip(pictures, imu, dt_s, strict=True):
        h = h * np.exp(-np.float32(dt)) + picture.reshape(-1).astype(np.float32) @ WEIGHTS + more
        y.append(h)
    return np.array(y, np.float32)


def write_camera(repository: Path, name: str = "camera", camera: Camera = Camera()) -> Bundle:
    """The model in a repository."""
    manifest, step = camera_manifest(name, camera), _step(imu=camera.imu)
    pictures, dt_s = film(5), np.full(5, NOMINAL_S, np.float32)
    more = {"imu": np.ones((5, 2), np.float32)} if camera.imu else {}
    y = camera_rollout(pictures, more.get("imu", np.zeros((5, 2), np.float32)), dt_s)
    golden = Golden({"camera": pictures, **more}, dt_s, {"y": y}, {"h": y[-1]})
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    return write_bundle(repository / name / "1", manifest, golden, graphs)


def film(frames: int, seed: int = 0) -> Array:
    """`[frames, H, W, 3]`: a light that moves over a coloured ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    middle = random.uniform([0, 0], [HEIGHT, WIDTH], (frames, 2))[:, :, None, None]
    light = np.exp(-((y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2) / 60)
    return (light[..., None] * random.integers(50, 250, 3)).astype(np.uint8)


def encoded(pictures: Array) -> list[bytes]:
    """Each picture as a JPEG."""
    return [jpeg.encode(picture) for picture in pictures]


def seen(pictures: list[bytes], spec: InputSpec) -> Array:
    """What a model sees of JPEGs."""
    found = np.empty((len(pictures), *spec.shape), np.uint8)
    for picture, into in zip(pictures, found, strict=True):
        jpeg.decode(picture, spec, into)
    return found


def _step(*, imu: bool) -> onnx.ModelProto:
    def tensor(name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["batch", *shape])

    nodes = [
        helper.make_node("Cast", ["camera"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["seen"]),
        helper.make_node("Neg", ["dt"], ["minus"]),
        helper.make_node("Exp", ["minus"], ["decay"]),
        helper.make_node("Mul", ["state_h", "decay"], ["kept"]),
        helper.make_node("Add", ["kept", "seen"], ["moved"]),
        helper.make_node("Add", ["moved", "imu"], ["state_h_out"])
        if imu
        else helper.make_node("Identity", ["moved"], ["state_h_out"]),
        helper.make_node("Identity", ["state_h_out"], ["y"]),
    ]
    inputs = [tensor("camera", SHAPE, TensorProto.UINT8), tensor("dt", (1,)), tensor("state_h", (2,))]
    inputs += [tensor("imu", (2,))] if imu else []
    weights = [onnx.numpy_helper.from_array(WEIGHTS, "weights")]
    graph = helper.make_graph(nodes, "camera", inputs, [tensor("y", (2,)), tensor("state_h_out", (2,))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return model
