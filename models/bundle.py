"""Bundle on disk: `NAME/VERSION/` with `manifest.json`, `step.onnx`, `chunk.onnx` and `golden.npz`.

Beside them may be `step.fused.onnx` and `chunk.fused.onnx`: the same graphs with operators that not every runtime has.

Reading checks everything that needs no run of the graph; the engine checks the rest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from statestream.models.npy import unhindered
from statestream.models.problems import first_problem
from statestream.models.spec import Array, Float32Array, Manifest, TensorSpec

MANIFEST = "manifest.json"
STEP = "step.onnx"
CHUNK = "chunk.onnx"
GOLDEN = "golden.npz"
FILES = (STEP, CHUNK, GOLDEN)
_MANIFEST_BYTES = 4 << 20
"""Most bytes of a manifest: clients get it in a message, and gRPC's default limit of one is 4 MiB."""
_GOLDEN_BYTES = 1 << 30
"""Most bytes of a golden recording's arrays, which an archive can hold in a thousandth of that."""
_BLOCK_BYTES = 1 << 20


class Graphs(NamedTuple):
    """Names of a step graph and of its chunk graph."""

    step: str
    chunk: str


PLAIN = Graphs(STEP, CHUNK)
FUSED = Graphs("step.fused.onnx", "chunk.fused.onnx")


class BundleError(ValueError):
    """A bundle that must not be served.

    The message names it, the part at fault, and why.
    """


@dataclass(frozen=True)
class Golden:
    """A short recording and PyTorch's results: `time` rows of one session, from its initial state."""

    inputs: Mapping[str, Array]
    """`[time, *shape]` by input name."""
    dt_s: Float32Array
    """`[time]` seconds."""
    outputs: Mapping[str, Array]
    """`[time, *shape]` by output name."""
    states: Mapping[str, Array]
    """`[*shape]` by state name, after the last row."""

    def arrays(self) -> dict[str, Array]:
        """Arrays by their names in `golden.npz`."""
        named: dict[str, Array] = {"dt": self.dt_s}
        for prefix, group in (("input", self.inputs), ("output", self.outputs), ("state", self.states)):
            named |= {f"{prefix}_{name}": array for name, array in group.items()}
        return named


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and its manifest."""

    path: Path
    manifest: Manifest
    graphs: Graphs = PLAIN

    @property
    def step_path(self) -> Path:
        return self.path / self.graphs.step

    @property
    def chunk_path(self) -> Path:
        return self.path / self.graphs.chunk

    def fused(self) -> Bundle | None:
        """This bundle with its fused graphs; None if it has none."""
        return replace(self, graphs=FUSED) if self.manifest.files.keys() >= {*FUSED} else None

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read `path` and check its manifest and the hash of every file.

        Raises:
            BundleError: a file or a field of the manifest is wrong; the text names it.
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
        """Read the bundle's golden recording.

        Raises:
            BundleError: an array is missing or has a shape other than the manifest's.
        """
        return read_golden(self.path, self.manifest)


def read_manifest(path: Path) -> Manifest:
    """Read and validate `path/manifest.json`.

    Raises:
        BundleError: it cannot be read, or a field is invalid; the text names the field and the value.
    """
    try:
        _check_plain(path / MANIFEST)
        if (size := (path / MANIFEST).stat().st_size) > _MANIFEST_BYTES:
            raise BundleError(f"{path / MANIFEST} has {size} bytes, at most {_MANIFEST_BYTES} are allowed; shorten it")
        text = (path / MANIFEST).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BundleError(f"{path}: cannot read {MANIFEST}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise BundleError(f"{path / MANIFEST} is not UTF-8 ({byte}); save it as UTF-8") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{path / MANIFEST}: {first_problem(error)}") from error


def odd_names(manifest: Manifest) -> list[str]:
    """Labels and units of a manifest that do not fit the shape that they name, a sentence each."""
    named: list[tuple[TensorSpec, str, tuple[str, ...]]] = [(t, "labels", t.labels) for t in manifest.inputs]
    named += [(t, "labels", t.labels) for t in manifest.outputs] + [(t, "units", t.units) for t in manifest.inputs]
    return [
        f"'{t.name}' has {len(names)} {kind} for a shape of {list(t.shape)}"
        for t, kind, names in named
        if names and len(names) not in (t.size, *t.shape[-1:])
    ]


def _check_file(path: Path, name: str, expected: str) -> None:
    if Path(name).name != name or "\0" in name:
        raise BundleError(f"{path}: manifest.files names {name!r}, which is not a plain file name")
    try:
        _check_plain(path / name)
        actual = file_hash(path / name)
    except OSError as error:
        raise BundleError(f"{path}: cannot read {name}: {error.strerror}") from error
    if actual != expected:
        raise BundleError(f"{path}: {name} is damaged: sha256 is {actual[:12]}…, the manifest says {expected[:12]}…")


def _check_plain(path: Path) -> None:
    """Raise OSError where a path is there, but no file: reading a pipe would wait for its writer."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Is a directory" if path.is_dir() else "Is no regular file")


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_golden(path: Path, manifest: Manifest) -> Golden:
    """Read `path/golden.npz` and check its arrays against the manifest.

    Raises:
        BundleError: the file cannot be read, or an array is missing or does not fit; the text names it.
    """
    wanted = {"dt", *(f"input_{t.name}" for t in manifest.inputs), *(f"output_{t.name}" for t in manifest.outputs)}
    arrays = _arrays(path, wanted | {f"state_{t.name}" for t in manifest.states})
    time = arrays["dt"].shape[0] if "dt" in arrays and arrays["dt"].ndim == 1 else 0
    if time == 0 or arrays["dt"].dtype.kind not in "fiu":
        raise BundleError(f"{path}: {GOLDEN} has no array 'dt' of shape [time], in seconds")

    def pick(name: str, spec: TensorSpec, *leading: int) -> Array:
        if name not in arrays:
            raise BundleError(f"{path}: {GOLDEN} has no array '{name}'")
        array, shape = arrays[name], (*leading, *spec.shape)
        if array.shape != shape:
            raise BundleError(f"{path}: {GOLDEN} array '{name}' has shape {array.shape}, expected {shape}")
        # Bytes in another order are the same numbers; another type may not be.
        if array.dtype.newbyteorder("=") != spec.np_dtype.newbyteorder("="):
            raise BundleError(f"{path}: {GOLDEN} array '{name}' is {array.dtype}, the manifest says {spec.dtype}")
        return np.ascontiguousarray(array, spec.np_dtype)

    return Golden(
        inputs={t.name: pick(f"input_{t.name}", t, time) for t in manifest.inputs},
        dt_s=arrays["dt"].astype(np.float32),
        outputs={t.name: pick(f"output_{t.name}", t, time) for t in manifest.outputs},
        states={t.name: pick(f"state_{t.name}", t) for t in manifest.states},
    )


def _arrays(path: Path, wanted: Set[str]) -> dict[str, Array]:
    """Read those arrays of `path/golden.npz` that are there. BundleError: it is no archive of arrays, or too large."""
    try:
        with (path / GOLDEN).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise BundleError(f"{path}: {GOLDEN} is a single array; expected an archive of arrays (numpy.savez)")
            names = [name for name in archive.files if name in wanted]
            size = sum(each.file_size for each in archive.zip.infolist() if each.filename.removesuffix(".npy") in names)
            if size > _GOLDEN_BYTES:
                raise BundleError(f"{path}: {GOLDEN} unpacks to {size} bytes, at most {_GOLDEN_BYTES} are read")
            return {name: unhindered(archive.__getitem__, name) for name in names}
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path}: cannot read {GOLDEN}: {error.strerror or error}") from error
    except Exception as error:  # the archive, its compression and numpy each have errors of their own
        raise BundleError(f"{path}: cannot read {GOLDEN}: {error}") from error


def write_bundle(path: Path, manifest: Manifest, golden: Golden, graphs: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole or not at all, by way of a temporary folder beside `path`.

    Args:
        graphs: content of `step.onnx`, `chunk.onnx`, and of fused graphs if there are any, by file name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, content in graphs.items():
            (folder / name).write_bytes(content)
        arrays: dict[str, Any] = golden.arrays()
        np.savez(folder / GOLDEN, **arrays)
        hashes = {name: file_hash(folder / name) for name in (*graphs, GOLDEN)}
        manifest = manifest.model_copy(update={"files": hashes})
        manifest_text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
        (folder / MANIFEST).write_text(manifest_text, encoding="utf-8")
        folder.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Bundle(path, manifest)


def versions(repository: Path, name: str) -> list[int]:
    """List versions of a model in a repository, oldest first.

    Empty: there are none.
    """
    folder = repository / name
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if _is_number(entry.name) and entry.is_dir())


def _is_number(name: str) -> bool:
    """Whether a folder's name is a version as it is written: not `01`, and no digits of other scripts."""
    return name.isascii() and name.isdecimal() and name == str(int(name))


def models(repository: Path) -> Iterator[tuple[str, int]]:
    """Yield (name, newest version) of each model of a repository, in order of name.

    The version is 0 where a model's folder cannot be read. Folders whose names are not UTF-8 are passed over: no
    message can carry them.
    """
    if not repository.is_dir():
        return
    for entry in sorted(repository.iterdir()):
        if entry.name.startswith(".") or not _is_text(entry.name):
            continue
        try:
            found = versions(repository, entry.name)
        except OSError:
            found = [0]
        if found:
            yield entry.name, found[-1]


def _is_text(name: str) -> bool:
    """Whether a name of the file system is UTF-8."""
    return name.encode("utf-8", "replace").decode() == name
