"""What each provider is told, and that TensorRT never builds while somebody waits."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from statestream.models.bundle import STEP
from statestream.models.spec import Manifest
from statestream.service.engine import providers
from statestream.service.engine.providers import PROVIDERS, TensorRTCache
from statestream.service.errors import FailedPrecondition
from tests.conftest import leaky_manifest


@pytest.fixture(autouse=True)
def everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(__version__="1.23.0", get_available_providers=lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(providers, "runtime", lambda: there)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)


def hashed(graph: str = "a" * 64, *, allow_tf32: bool = False) -> Manifest:
    return leaky_manifest().model_copy(update={"files": {STEP: graph}, "allow_tf32": allow_tf32})


def options(*chosen: str, manifest: Manifest, cache: TensorRTCache = providers.NO_BUILD) -> list[dict[str, str]]:
    return [given for _, given in providers.for_step(chosen, manifest, 3, cache)]


def test_the_order_is_kept_and_what_is_not_there_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(providers, "installed_providers", lambda: ["cpu", "cuda"])
    with caplog.at_level(logging.INFO):
        assert providers.available(["tensorrt", "cuda", "cpu"]) == ["cuda", "cpu"]
    assert "'tensorrt' is not available (onnxruntime has cpu, cuda)" in caplog.text
    with pytest.raises(FailedPrecondition, match="onnxruntime has cpu, cuda, none of xnnpack"):
        providers.available(["xnnpack"])
    with pytest.raises(FailedPrecondition, match="unknown provider 'gpu'; expected cpu, xnnpack, cuda, tensorrt"):
        providers.available(["gpu"])


def test_cuda_computes_in_float32_unless_the_bundle_allows_less() -> None:
    assert options("cuda", "cpu", manifest=hashed()) == [{"use_tf32": "0"}, {}]
    assert options("cuda", "cpu", manifest=hashed(allow_tf32=True)) == [{}, {}]


def test_xnnpack_has_the_threads() -> None:
    assert options("xnnpack", manifest=hashed()) == [{"intra_op_num_threads": "3"}]


def test_tensorrt_knows_every_batch_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (given,) = options("tensorrt", manifest=hashed(), cache=TensorRTCache(tmp_path, max_batch=256))
    assert given["trt_profile_min_shapes"] == "x:1x2,dt:1x1,state_h:1x2"
    assert given["trt_profile_opt_shapes"] == "x:64x2,dt:64x1,state_h:64x2"
    assert given["trt_profile_max_shapes"] == "x:256x2,dt:256x1,state_h:256x2"
    assert Path(given["trt_engine_cache_path"]).parent == tmp_path


@pytest.mark.parametrize("allowed", [True, False])
def test_tensorrt_computes_in_float32_unless_the_bundle_allows_less(
    allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(providers, "os", SimpleNamespace(environ=environment))
    options("tensorrt", manifest=hashed(allow_tf32=allowed), cache=TensorRTCache(tmp_path))
    assert environment == ({} if allowed else {"NVIDIA_TF32_OVERRIDE": "0"})


def test_tensorrt_gets_no_loop() -> None:
    assert [name for name, _ in providers.for_chunk(["tensorrt", "cuda", "cpu"], hashed(), 1, providers.NO_BUILD)] == [
        PROVIDERS["cuda"],
        PROVIDERS["cpu"],
    ]
    assert providers.for_chunk(["tensorrt"], hashed(), 1, providers.NO_BUILD) == [(PROVIDERS["cpu"], {})]


def test_an_engine_is_built_only_when_that_is_asked_for(tmp_path: Path) -> None:
    served, warming = TensorRTCache(tmp_path), TensorRTCache(tmp_path, build=True)
    with pytest.raises(FailedPrecondition, match=r"no engine for leaky:1 in .*statestream warmup"):
        served.check(hashed())
    warming.check(hashed())
    with pytest.raises(FailedPrecondition, match="no engine"):
        served.check(hashed())  # a build that was cut off
    warming.finish(hashed())
    served.check(hashed())


def test_another_graph_runtime_or_largest_batch_needs_another_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {TensorRTCache(tmp_path).of(hashed()), TensorRTCache(tmp_path).of(hashed("b" * 64))}
    folders.add(TensorRTCache(tmp_path, max_batch=8).of(hashed()))
    monkeypatch.setattr(providers, "runtime", lambda: SimpleNamespace(__version__="1.24.0"))
    folders.add(TensorRTCache(tmp_path).of(hashed()))
    assert len(folders) == 4
