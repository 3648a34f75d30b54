"""`statestream bundle`: checks bundles on disk and makes golden vectors for them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from statestream.models.bundle import (
    CHUNK,
    FILES,
    FUSED,
    GOLDEN,
    MANIFEST,
    STEP,
    Bundle,
    BundleError,
    Golden,
    file_hash,
    read_manifest,
)
from statestream.models.spec import Array, InputSpec, Manifest
from statestream.service.cli.console import err, out
from statestream.service.cli.models import describe
from statestream.service.engine import runtimes
from statestream.service.engine.refusal import refusing
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.service.engine.graph_file import GraphFile

app = typer.Typer(no_args_is_help=True, help="Bundles on disk: check one, make golden vectors for one.")
Folder = Annotated[Path, typer.Argument(help="The bundle's folder, NAME/VERSION.", metavar="DIR")]


@app.command()
def check(
    folder: Folder,
    board: Annotated[
        str,
        typer.Option(
            "--for",
            help=f"Fail where this cannot run it: {', '.join(runtimes.BOARDS)}, or a version of onnxruntime.",
            metavar="BOARD",
        ),
    ] = "",
) -> None:
    """Say whether a server would serve this bundle, and what is wrong if not.

    [bold]Examples[/]

      statestream bundle check repository/wrist/3

      statestream bundle check repository/wrist/3 --for jetpack6
    """
    engine = need("statestream.service.engine.onnx", "cpu")
    newest = _newest_runtime(board)
    bundle = Bundle.open(folder)
    loaded = engine.Engine.load(bundle)
    describe(bundle.manifest)
    for concern in loaded.concerns:
        err.print(f"[yellow]warning[/] {concern}", soft_wrap=True, highlight=False)
    needed = _oldest(bundle)
    out.print(
        f"[green]ok[/]: files, tensors and golden recording, alone and beside strangers; a step takes "
        f"{loaded.cost.step_s * 1e6:.0f} µs, 64 together {loaded.cost.batch_s * 1e6:.0f} µs",
        highlight=False,
    )
    out.print(f"runs on onnxruntime {needed or 'of this machine'} and newer", highlight=False)
    if (fused := bundle.fused()) is not None:
        here = "run here" if loaded.fused else "do not run here"
        out.print(f"fused graphs {here}; they need onnxruntime {_oldest(fused)} or newer", highlight=False)
    if newest and not runtimes.runs(needed, newest):
        raise BundleError(
            f"{folder} needs onnxruntime {needed}, and {board} has {newest} at most: export it with opset 20 and IR "
            f"version 10, without newer operators"
        )


def _oldest(bundle: Bundle) -> str:
    """The oldest onnxruntime that runs a bundle's graphs; empty where none that is known does."""
    return runtimes.oldest(_graph(bundle.step_path), _graph(bundle.chunk_path))


def _graph(path: Path) -> GraphFile:
    """Read an ONNX file, with protobuf, which commands of other kinds need not load."""
    from statestream.service.engine.graph_file import GraphFile

    return GraphFile.read(path)


def _newest_runtime(board: str) -> str:
    """The newest onnxruntime of a board, or the version that was given; empty where neither was."""
    version = runtimes.BOARDS.get(board, board)
    if version and not version[0].isdigit():
        known = ", ".join(runtimes.BOARDS)
        raise InvalidArgument(f"'{board}'; expected {known}, or a version of onnxruntime as 1.23", field="--for")
    return version


@app.command()
def golden(
    folder: Folder,
    rows: Annotated[int, typer.Option(help="Rows of the recording.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the random recording.")] = 0,
) -> None:
    """Write golden.npz, chunk.onnx if missing, and the manifest's hashes, for a model exported elsewhere.

    The folder needs manifest.json and step.onnx. The golden recording is random and is run through step.onnx on this
    machine. A server then detects another machine or provider that computes different results. Nothing is written
    unless a server would serve the result.

    [bold]Example[/]

      statestream bundle golden repository/mine/1
    """
    engine = need("statestream.service.engine.onnx", "cpu")
    manifest = read_manifest(folder)
    if not (folder / STEP).is_file():
        raise BundleError(f"{folder}: there is no {STEP}")
    with _draft(folder) as draft:
        made = [GOLDEN, MANIFEST]
        if not (draft / CHUNK).is_file():
            _write_chunk(draft, manifest)
            made.insert(0, CHUNK)
        weights = {name for graph in (STEP, CHUNK) for name in _graph(draft / graph).weight_files}
        files = {name: file_hash(draft / name) for name in (STEP, CHUNK, *sorted(weights))}
        fused = [name for name in FUSED if (draft / name).is_file()]
        recording: dict[str, Any] = _run(draft, manifest.model_copy(update={"files": files}), rows, seed).arrays()
        np.savez(draft / GOLDEN, **recording)
        manifest = manifest.model_copy(
            update={"files": {name: file_hash(draft / name) for name in (*FILES, *fused, *sorted(weights))}}
        )
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        engine.Engine.load(Bundle.open(draft))
        for name in made:
            (draft / name).replace(folder / name)
    wrote = f"{', '.join(made[:-1])} with {rows} rows and the hashes of {MANIFEST}"
    out.print(f"[green]wrote[/] {wrote}", highlight=False)
    check(folder)


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder beside a bundle's with its graphs and weights, in which files are made before they replace any.

    Refusals of what is in there are told of `folder`.
    """
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.resolve().parent))
    try:
        with refusing(f"{folder} cannot be read"):
            for name in (STEP, CHUNK, *FUSED, *_graph(folder / STEP).weight_files):
                if Path(name).name != name:
                    raise BundleError(f"{folder / STEP} keeps weights in '{name}', which is not a plain file name")
                if (folder / name).is_file():
                    # Copies: the package `onnx` reads no weights from a file that is linked twice.
                    shutil.copyfile(folder / name, draft / name)
        yield draft
    except BundleError as error:
        raise BundleError(str(error).replace(str(draft), str(folder))) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_chunk(folder: Path, manifest: Manifest) -> None:
    onnx = need("onnx", "train")
    scan = need("statestream.models.export.onnx_scan", "train")
    with refusing(f"{folder / STEP} cannot be wrapped into {CHUNK}"):
        chunk = scan.wrap_in_scan(onnx.load(folder / STEP), manifest)
        (folder / CHUNK).write_bytes(chunk.SerializeToString())


def _run(folder: Path, manifest: Manifest, rows: int, seed: int) -> Golden:
    """Run a random recording through the step graph."""
    engine = need("statestream.service.engine.onnx", "cpu")
    loaded = engine.Engine.open(Bundle(folder, manifest))
    random = np.random.default_rng(seed)
    inputs = {t.name: _random(random, (rows, *t.shape), t) for t in manifest.inputs}
    nominal_s = manifest.time.nominal_s
    dt_s = np.clip(random.uniform(0.5, 2.0, rows) * nominal_s, manifest.time.min_s, manifest.time.max_s)
    with refusing(f"{folder / STEP} does not run"):
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
