"""What runs the graphs: ONNX Runtime's execution providers by the names that `--providers` takes, each set up so that
it computes what was trained, and never builds anything while clients wait."""

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
"""A provider as ONNX Runtime takes it: its name there, and options."""
_USUAL_BATCH = 64
_DONE = "complete"


@dataclass(frozen=True)
class TensorRTCache:
    """TensorRT's engines on disk, a folder for each model. Building one takes minutes."""

    folder: Path = Path("engines")
    max_batch: int = 1024
    """Engines are built for batches from 1 up to this."""
    build: bool = False
    """Whether what is missing is built; otherwise it is an error."""

    def of(self, manifest: Manifest) -> Path:
        """The folder of a model as it is: with another graph, runtime or `max_batch` it is another folder."""
        graph = manifest.files.get(STEP, "unhashed")[:12]
        return self.folder / f"{manifest.name}-{manifest.version}-{graph}-{runtime().__version__}-{self.max_batch}"

    def check(self, manifest: Manifest) -> None:
        """Raise FailedPrecondition where the engines of a model are not there and not to be built."""
        folder = self.of(manifest)
        if self.build:
            folder.mkdir(parents=True, exist_ok=True)
        elif not (folder / _DONE).exists():
            raise FailedPrecondition(
                f"TensorRT has no engine for {manifest.ref} in {self.folder}; build it: statestream warmup",
                field="providers",
            )

    def finish(self, manifest: Manifest) -> None:
        """Note that a model's engines are all there."""
        with replacing(self.of(manifest) / _DONE) as temporary:
            temporary.touch()


NO_BUILD = TensorRTCache()


def runtime() -> Any:
    """The module `onnxruntime`; FailedPrecondition where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise FailedPrecondition(
            "onnxruntime is not installed: pip install 'statestream[cpu]' (or 'statestream[gpu]'; on Jetson use the "
            "wheel of your JetPack)"
        ) from error
    return onnxruntime


def installed_providers() -> list[str]:
    """Keys of `PROVIDERS` that this machine's onnxruntime has."""
    there = runtime().get_available_providers()
    return [key for key, name in PROVIDERS.items() if name in there]


def available(wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that are there, in their order.

    Raises:
        FailedPrecondition: none is, or one is no provider.
    """
    unknown = [key for key in wanted if key not in PROVIDERS]
    if unknown:
        raise FailedPrecondition(f"'{unknown[0]}' is none of {', '.join(PROVIDERS)}", field="providers")
    there = installed_providers()
    for key in wanted:
        if key not in there:
            log.info("provider '%s' is not there (onnxruntime has %s); passing it over", key, ", ".join(there))
    chosen = [key for key in wanted if key in there]
    if not chosen:
        raise FailedPrecondition(f"onnxruntime has {', '.join(there)}, none of {', '.join(wanted)}", field="providers")
    return chosen


def for_step(chosen: Sequence[str], manifest: Manifest, threads: int, cache: TensorRTCache) -> list[Argument]:
    """Arguments for the step graph."""
    return [(PROVIDERS[key], _options(key, manifest, threads, cache)) for key in chosen]


def for_chunk(chosen: Sequence[str], manifest: Manifest, threads: int, cache: TensorRTCache) -> list[Argument]:
    """Arguments for the chunk graph, which is a Scan: TensorRT has reported wrong results for loops, so not there."""
    return for_step([key for key in chosen if key != "tensorrt"] or ["cpu"], manifest, threads, cache)


def _options(key: str, manifest: Manifest, threads: int, cache: TensorRTCache) -> dict[str, str]:
    if key == "xnnpack":
        return {"intra_op_num_threads": str(threads)}
    if key == "cuda":
        return {} if manifest.allow_tf32 else {"use_tf32": "0"}
    if key == "tensorrt":
        if not manifest.allow_tf32:
            # TensorRT knows no option for it; NVIDIA's libraries read this when they are loaded.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        folder, most = str(cache.of(manifest)), min(cache.max_batch, manifest.max_batch or cache.max_batch)
        return {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            # Without them, each batch of a new size would be a build, in the middle of a turn.
            "trt_profile_min_shapes": _shapes(manifest, 1),
            "trt_profile_opt_shapes": _shapes(manifest, min(_USUAL_BATCH, most)),
            "trt_profile_max_shapes": _shapes(manifest, most),
        }
    return {}


def _shapes(manifest: Manifest, batch: int) -> str:
    """The step graph's inputs at a batch, as TensorRT's provider reads them: `x:64x6,dt:64x1,state_h:64x32`."""
    inputs = {t.name: t.shape for t in manifest.inputs} | {"dt": (1,)}
    inputs |= {f"state_{s.name}": s.shape for s in manifest.states}
    return ",".join(f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in inputs.items())
