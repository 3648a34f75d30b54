"""A graph opened by C++ is what it is opened by Python: tensors, results, refusals, and runs that are ended."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from statestream.models.bundle import BundleError
from statestream.models.demo import REPOSITORY
from statestream.service.engine.choice import lacking
from statestream.service.engine.onnx import Engine
from tests.support.bundles import write_leaky

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "it was built")
GRAPHS = [REPOSITORY / "rover/1/step.onnx", REPOSITORY / "rover/1/chunk.onnx"]


def open_both(path: Path) -> tuple[object, onnxruntime.InferenceSession]:
    from statestream.service.engine.native.session import NativeSession

    options = onnxruntime.SessionOptions()
    return NativeSession(str(path), options), onnxruntime.InferenceSession(str(path), onnxruntime.SessionOptions())


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.name)
def test_it_has_the_tensors_and_results_of_pythons_session(path: Path) -> None:
    native, python = open_both(path)
    random = np.random.default_rng(0)
    feed = {}
    for tensor in python.get_inputs():
        shape = [{"batch": 3, "time": 4}.get(axis, axis) for axis in tensor.shape]
        x = random.uniform(0.1, 1, shape)
        feed[tensor.name] = x > 0.5 if tensor.type == "tensor(bool)" else x.astype(np.float32)
    for side in ("get_inputs", "get_outputs"):
        found, expected = ([(t.name, t.type, t.shape) for t in getattr(each, side)()] for each in (native, python))
        assert found == expected
    names = [tensor.name for tensor in python.get_outputs()]
    for ours, theirs in zip(native.run(names, feed), python.run(names, feed), strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
        ours[...] = 0  # as onnxruntime's, it may be written


def test_a_file_that_is_no_graph_is_refused_in_the_same_words(tmp_path: Path) -> None:
    bundle = write_leaky(tmp_path)
    model = bundle.step_path.read_bytes()
    bundle.step_path.write_bytes(model.replace(b"Neg", b"Nog"))
    refusals = []
    for native in (True, False):
        with pytest.raises(BundleError) as refused:
            Engine.open(bundle, native=native)
        refusals.append(str(refused.value))
    assert refusals[0] == refusals[1]
    assert "Nog" in refusals[0]


def test_wrong_inputs_are_errors(tmp_path: Path) -> None:
    native, _ = open_both(write_leaky(tmp_path).step_path)
    good = {"x": np.ones((1, 2), np.float32), "dt": np.ones((1, 1), np.float32), "state_h": np.ones((1, 2), np.float32)}
    for wrong in ({"x": np.ones((1, 2))}, {"x": np.ones((1, 3), np.float32)}, {"z": np.ones((1, 2), np.float32)}):
        with pytest.raises(RuntimeError):
            native.run(["y"], good | wrong)
    with pytest.raises(RuntimeError):
        native.run(["z"], good)
    np.testing.assert_array_equal(native.run(["y"], good)[0], 2 * (np.exp(-np.ones((1, 2), np.float32)) + 1))


def test_a_session_needs_options_that_were_handed_over_in_its_thread(tmp_path: Path) -> None:
    from statestream.service.engine.native import _core

    path, errors = str(write_leaky(tmp_path).step_path), []

    def open_without() -> None:
        try:
            _core.Session(path)
        except RuntimeError as error:
            errors.append(str(error))

    onnxruntime.SessionOptions().register_custom_ops_library(_core.__file__)
    thread = threading.Thread(target=open_without)
    thread.start()
    thread.join()
    assert errors == ["onnxruntime's options have not been registered in this thread"]
    assert _core.Session(path).inputs[0][0] == "x"
    open_without()
    assert len(errors) == 2


def test_a_run_ends_when_it_is_told_to(tmp_path: Path) -> None:
    native, _ = open_both(write_leaky(tmp_path).step_path)
    feed = {"x": np.ones((1, 2), np.float32), "dt": np.ones((1, 1), np.float32), "state_h": np.ones((1, 2), np.float32)}
    options = native.run_options()
    assert options.terminate is False
    options.terminate = True
    with pytest.raises(RuntimeError, match="terminate"):
        native.run(["y"], feed, options)
    options.terminate = False
    assert len(native.run(["y"], feed, options)) == 1
