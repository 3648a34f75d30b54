"""A bundle on disk: `NAME/VERSION/` with `manifest.json`, `step.onnx`, `chunk.onnx` and `golden.npz`.

Reading checks everything that can be checked without running the graph; the engine checks the rest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from statestream.models.spec import Array, Float32Array, Manifest

MANIFEST = "manifest.json"
STEP = "step.onnx"
CHUNK = "chunk.onnx"
GOLDEN = "golden.npz"
FILES = (STEP, CHUNK, GOLDEN)


class BundleError(ValueError):
    """A bundle that must not be served; the message says which one, which part of it, and why."""


@dataclass(frozen=True)
class Golden:
    """A short recording with what PyTorch made of it. `time` rows of one session, from its initial state."""

    inputs: Mapping[str, Array]
    """`[time, *shape]` by input name."""
    dt_s: Float32Array
    """`[time]`"""
    outputs: Mapping[str, Array]
    """`[time, *shape]` by output name."""
    states: Mapping[str, Array]
    """`[*shape]` by state name, after the last row."""

    def arrays(self) -> dict[str, Array]:
        """The arrays as `golden.npz` names them."""
        named: dict[str, Array] = {"dt": self.dt_s}
        for prefix, group in (("input", self.inputs), ("output", self.outputs), ("state", self.states)):
            named |= {f"{prefix}_{name}": array for name, array in group.items()}
        return named


@dataclass(frozen=True)
class Bundle:
    """A manifest and the folder it describes."""

    path: Path
    manifest: Manifest

    @property
    def step_path(self) -> Path:
        return self.path / STEP

    @property
    def chunk_path(self) -> Path:
        return self.path / CHUNK

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read `path` and check its manifest and the hash of every file.

        Raises:
            BundleError: naming the file, or the manifest's field, that is wrong.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for name in FILES:
            if name not in manifest.files:
                raise BundleError(
                    f"{path}: manifest.files has no entry '{name}' (`statestream bundle golden {path}` adds it)"
                )
        for name, expected in manifest.files.items():
            _check_file(path, name, expected)
        return cls(path, manifest)

    def golden(self) -> Golden:
        """The bundle's golden recording.

        Raises:
            BundleError: an array is missing or has a shape other than the manifest's.
        """
        return read_golden(self.path, self.manifest)


def read_manifest(path: Path) -> Manifest:
    """`path/manifest.json`, validated; raises `BundleError` naming the field and the value it got."""
    try:
        text = (path / MANIFEST).read_text()
    except OSError as error:
        raise BundleError(f"{path}: cannot read {MANIFEST}: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{path / MANIFEST}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """One line a person can act on: the field, the value it got, and what was expected."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    got = problem.get("input")
    shown = "" if isinstance(got, dict) or problem["type"] == "missing" else f" (got {got!r})"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{where}: " if where else "") + problem["msg"].removeprefix("Value error, ") + shown + more


def _check_file(path: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise BundleError(f"{path}: manifest.files names '{name}', which is not a plain file name")
    try:
        actual = file_hash(path / name)
    except OSError as error:
        raise BundleError(f"{path}: cannot read {name}: {error.strerror}") from error
    if actual != expected:
        raise BundleError(f"{path}: {name} is damaged: sha256 is {actual[:12]}…, the manifest says {expected[:12]}…")


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_golden(path: Path, manifest: Manifest) -> Golden:
    """`path/golden.npz`, its arrays checked against the manifest; raises `BundleError` naming the array."""
    try:
        with np.load(path / GOLDEN, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot read {GOLDEN}: {error}") from error
    time = arrays["dt"].shape[0] if "dt" in arrays and arrays["dt"].ndim == 1 else 0
    if time == 0:
        raise BundleError(f"{path}: {GOLDEN} has no array 'dt' of shape [time]")

    def pick(name: str, shape: tuple[int, ...]) -> Array:
        if name not in arrays:
            raise BundleError(f"{path}: {GOLDEN} has no array '{name}'")
        if arrays[name].shape != shape:
            raise BundleError(f"{path}: {GOLDEN} array '{name}' has shape {arrays[name].shape}, expected {shape}")
        return np.ascontiguousarray(arrays[name])

    return Golden(
        inputs={t.name: pick(f"input_{t.name}", (time, *t.shape)) for t in manifest.inputs},
        dt_s=arrays["dt"].astype(np.float32),
        outputs={t.name: pick(f"output_{t.name}", (time, *t.shape)) for t in manifest.outputs},
        states={t.name: pick(f"state_{t.name}", t.shape) for t in manifest.states},
    )


def write_bundle(path: Path, manifest: Manifest, golden: Golden, graphs: Mapping[str, bytes]) -> Bundle:
    """Write a whole bundle, or nothing: a temporary folder beside `path`, renamed into place at the end.

    Args:
        graphs: content of `step.onnx` and `chunk.onnx` by file name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, content in graphs.items():
            (folder / name).write_bytes(content)
        arrays: dict[str, Any] = golden.arrays()
        np.savez(folder / GOLDEN, **arrays)
        hashes = {name: file_hash(folder / name) for name in FILES}
        manifest = manifest.model_copy(update={"files": hashes})
        (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
        folder.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Bundle(path, manifest)


def versions(repository: Path, name: str) -> list[int]:
    """Versions of a model in a repository, oldest first; empty when there is none."""
    folder = repository / name
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit() and entry.is_dir())


def models(repository: Path) -> Iterator[tuple[str, int]]:
    """Every (name, newest version) of a repository, by name."""
    if not repository.is_dir():
        return
    for entry in sorted(repository.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            found = versions(repository, entry.name)
            if found:
                yield entry.name, found[-1]
