"""ONNX Runtime's execution providers, by the names that `--providers` takes.

Their options make them compute what was trained. None builds an engine while clients wait.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statestream.models.bundle import STEP
from statestream.models.files import replacing
from statestream.models.spec import Manifest
from statestream.service.errors import FailedPrecondition

log = logging.getLogger(__name__)

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
Argument = tuple[str, dict[str, str]]
"""An execution provider for ONNX Runtime: its name there, and its options."""
_USUAL_BATCH = 64
_DONE = "complete"


@dataclass(frozen=True)
class TensorRTCache:
    """TensorRT's engines on disk, one folder a model. Building one takes minutes."""

    folder: Path = Path("engines")
    max_batch: int = 1024
    """Largest batch that engines are built for; the smallest is 1."""
    build: bool = False
    """Whether missing engines are built; where false, a missing engine is an error."""

    def of(self, manifest: Manifest) -> Path:
        """Folder of a model's engines; another graph, runtime version or `max_batch` gives another folder."""
        graph = manifest.files.get(STEP, "unhashed")[:12]
        return self.folder / f"{manifest.name}-{manifest.version}-{graph}-{runtime().__version__}-{self.max_batch}"

    def check(self, manifest: Manifest) -> None:
        """Check that a model's engines exist or may be built.

        Raises:
            FailedPrecondition: they are missing, and `build` is false.
        """
        folder = self.of(manifest)
        if self.build:
            folder.mkdir(parents=True, exist_ok=True)
        elif not (folder / _DONE).exists():
            raise FailedPrecondition(
                f"TensorRT has no engine for {manifest.ref} in {self.folder}; build it: statestream warmup",
                field="providers",
            )

    def finish(self, manifest: Manifest) -> None:
        """Mark a model's engines as completely built."""
        with replacing(self.of(manifest) / _DONE) as temporary:
            temporary.touch()


NO_BUILD = TensorRTCache()


def runtime() -> Any:
    """The module `onnxruntime`. Raises FailedPrecondition where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise FailedPrecondition(
            "onnxruntime is not installed: pip install 'statestream[cpu]' (or 'statestream[gpu]'; on Jetson use the "
            "wheel of your JetPack)"
        ) from error
    return onnxruntime


def installed_providers() -> list[str]:
    """Keys of `PROVIDERS` that the installed onnxruntime has."""
    installed = runtime().get_available_providers()
    return [key for key, name in PROVIDERS.items() if name in installed]


def is_cpu(wanted: Sequence[str]) -> bool:
    """Whether the CPU is the first of `wanted` that is installed."""
    installed = installed_providers()
    return next((key for key in wanted if key in installed), "") == "cpu"


def available(wanted: Sequence[str]) -> list[str]:
    """The installed ones of `wanted`, in their order.

    Raises:
        FailedPrecondition: none of them is installed, or one is not a key of `PROVIDERS`.
    """
    unknown = [key for key in wanted if key not in PROVIDERS]
    if unknown:
        raise FailedPrecondition(f"unknown provider '{unknown[0]}'; expected {', '.join(PROVIDERS)}", field="providers")
    installed = installed_providers()
    for key in wanted:
        if key not in installed:
            log.info("provider '%s' is not available (onnxruntime has %s); skipping it", key, ", ".join(installed))
    chosen = [key for key in wanted if key in installed]
    if not chosen:
        raise FailedPrecondition(
            f"onnxruntime has {', '.join(installed)}, none of {', '.join(wanted)}", field="providers"
        )
    return chosen


def for_step(chosen: Sequence[str], manifest: Manifest, threads: int, cache: TensorRTCache) -> list[Argument]:
    """Execution providers for the step graph."""
    return [(PROVIDERS[key], _options(key, manifest, threads, cache)) for key in chosen]


def for_chunk(chosen: Sequence[str], manifest: Manifest, threads: int, cache: TensorRTCache) -> list[Argument]:
    """Execution providers for the chunk graph, without TensorRT.

    The chunk graph is a Scan, and TensorRT has returned wrong results for loops.
    """
    return for_step([key for key in chosen if key != "tensorrt"] or ["cpu"], manifest, threads, cache)


def _options(key: str, manifest: Manifest, threads: int, cache: TensorRTCache) -> dict[str, str]:
    if key == "xnnpack":
        return {"intra_op_num_threads": str(threads)}
    if key == "cuda":
        return {} if manifest.allow_tf32 else {"use_tf32": "0"}
    if key == "tensorrt":
        if not manifest.allow_tf32:
            # TensorRT has no option for TF32; NVIDIA's libraries read this variable when they are loaded.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        folder, most = str(cache.of(manifest)), min(cache.max_batch, manifest.max_batch or cache.max_batch)
        return {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            # Without these profiles, each new batch size would start a build in the middle of a turn.
            "trt_profile_min_shapes": _shapes(manifest, 1),
            "trt_profile_opt_shapes": _shapes(manifest, min(_USUAL_BATCH, most)),
            "trt_profile_max_shapes": _shapes(manifest, most),
        }
    return {}


def _shapes(manifest: Manifest, batch: int) -> str:
    """The step graph's input shapes at a batch size, in TensorRT's notation: `x:64x6,dt:64x1,state_h:64x32`."""
    inputs = {t.name: t.shape for t in manifest.inputs} | {"dt": (1,)}
    inputs |= {f"state_{s.name}": s.shape for s in manifest.states}
    return ",".join(f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in inputs.items())
