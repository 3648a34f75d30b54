"""`statestream bundle`: checks bundles on disk and makes golden vectors for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from statestream.models.bundle import (
    CHUNK,
    FILES,
    GOLDEN,
    MANIFEST,
    STEP,
    Bundle,
    BundleError,
    Golden,
    file_hash,
    read_manifest,
)
from statestream.models.files import replacing
from statestream.models.spec import Array, InputSpec, Manifest
from statestream.service.cli.console import out
from statestream.service.cli.models import describe
from statestream.service.extras import need

app = typer.Typer(no_args_is_help=True, help="Bundles on disk: check one, make golden vectors for one.")
Folder = Annotated[Path, typer.Argument(help="The bundle's folder, NAME/VERSION.", metavar="DIR")]


@app.command()
def check(folder: Folder) -> None:
    """Check whether a server would serve this bundle, and print what is wrong if not.

    [bold]Example[/]

      statestream bundle check repository/wrist/3
    """
    engine = need("statestream.service.engine.onnx", "cpu")
    bundle = Bundle.open(folder)
    loaded = engine.Engine.load(bundle)
    describe(bundle.manifest)
    out.print(
        f"[green]ok[/]: files, tensors and golden recording; a step takes {loaded.cost.step_s * 1e6:.0f} µs, "
        f"64 together {loaded.cost.batch_s * 1e6:.0f} µs",
        highlight=False,
    )


@app.command()
def golden(
    folder: Folder,
    rows: Annotated[int, typer.Option(help="Rows of the recording.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the random recording.")] = 0,
) -> None:
    """Write golden.npz, chunk.onnx if missing, and the manifest's hashes, for a model exported elsewhere.

    The folder needs manifest.json and step.onnx. The golden recording is random and is run through step.onnx on this
    machine. A server then detects another machine or provider that computes different results.

    [bold]Example[/]

      statestream bundle golden repository/mine/1
    """
    manifest = read_manifest(folder)
    if not (folder / CHUNK).is_file():
        _write_chunk(folder, manifest)
    recording = _run(folder, manifest, rows, seed)
    arrays: dict[str, Any] = recording.arrays()
    with replacing(folder / GOLDEN) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    manifest = manifest.model_copy(update={"files": {name: file_hash(folder / name) for name in FILES}})
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=2) + "\n")
    out.print(f"[green]wrote[/] {GOLDEN} with {rows} rows and the hashes of {MANIFEST}", highlight=False)
    check(folder)


def _write_chunk(folder: Path, manifest: Manifest) -> None:
    onnx = need("onnx", "train")
    scan = need("statestream.models.export.onnx_scan", "train")
    try:
        chunk = scan.wrap_in_scan(onnx.load(folder / STEP), manifest)
    except FileNotFoundError:
        raise BundleError(f"{folder}: {STEP} is missing") from None
    with replacing(folder / CHUNK) as temporary:
        temporary.write_bytes(chunk.SerializeToString())
    out.print(f"[green]wrote[/] {CHUNK}, {STEP} within a Scan", highlight=False)


def _run(folder: Path, manifest: Manifest, rows: int, seed: int) -> Golden:
    """Run a random recording through the step graph."""
    engine = need("statestream.service.engine.onnx", "cpu")
    random = np.random.default_rng(seed)
    inputs = {t.name: _random(random, (rows, *t.shape), t) for t in manifest.inputs}
    nominal_s = manifest.time.nominal_s
    dt_s = np.clip(random.uniform(0.5, 2.0, rows) * nominal_s, manifest.time.min_s, manifest.time.max_s)
    loaded = engine.Engine.open(Bundle(folder, manifest))
    outputs, states = loaded.rollout(inputs, dt_s.astype(np.float32))
    kept = {t.name: outputs[t.name] for t in manifest.outputs}
    return Golden(inputs, dt_s.astype(np.float32), kept, states)


def _random(random: np.random.Generator, shape: tuple[int, ...], spec: InputSpec) -> Array:
    if spec.dtype != "float32":
        return random.integers(0, 2 if spec.dtype == "bool" else 256, shape).astype(spec.dtype)
    x = random.normal(size=shape).astype(np.float32)
    if spec.nan == "not_measured":
        x[random.random(shape) < 0.5] = np.nan
    return x
