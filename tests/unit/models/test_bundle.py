"""What is wrong with a bundle is said, and said of the right part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from statestream.models import bundle
from statestream.models.bundle import Bundle, BundleError
from tests.support.bundles import write_leaky


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_leaky(tmp_path).path


def edit(path: Path, **changes: object) -> None:
    values = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**values, **changes}))


def test_a_written_bundle_opens_and_its_golden_vectors_have_the_manifests_shapes(path: Path) -> None:
    opened = Bundle.open(path)
    golden = opened.golden()
    assert opened.manifest.ref == "leaky:1"
    assert golden.inputs["x"].shape == (len(golden.dt_s), 2)
    assert golden.states["h"].shape == (2,)


@pytest.mark.parametrize("name", ["step.onnx", "chunk.onnx", "golden.npz"])
def test_a_flipped_byte_is_found(path: Path, name: str) -> None:
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        Bundle.open(path)


@pytest.mark.parametrize("name", ["manifest.json", "step.onnx", "chunk.onnx", "golden.npz"])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"cannot read {name}"):
        Bundle.open(path)


def test_a_manifest_field_that_is_wrong_is_named_with_its_value(path: Path) -> None:
    edit(path, version=-3)
    with pytest.raises(BundleError, match=r"version: .*got -3"):
        Bundle.open(path)


def test_an_unknown_manifest_field_is_named(path: Path) -> None:
    edit(path, colour="blue")
    with pytest.raises(BundleError, match="colour"):
        Bundle.open(path)


def test_a_manifest_that_names_a_file_elsewhere_is_refused(path: Path) -> None:
    values = json.loads((path / "manifest.json").read_text())
    edit(path, files={**values["files"], "../escape": "0"})
    with pytest.raises(BundleError, match="not a plain file name"):
        Bundle.open(path)


def test_a_golden_array_that_is_missing_or_misshapen_is_named(path: Path) -> None:
    with np.load(path / "golden.npz") as archive:
        arrays = dict(archive)
    np.savez(path / "golden.npz", **{name: a for name, a in arrays.items() if name != "state_h"})
    with pytest.raises(BundleError, match="no array 'state_h'"):
        bundle.read_golden(path, bundle.read_manifest(path))
    np.savez(path / "golden.npz", **{**arrays, "output_y": arrays["output_y"][:-1]})
    with pytest.raises(BundleError, match="'output_y' has shape"):
        bundle.read_golden(path, bundle.read_manifest(path))


def test_the_repository_lists_versions_as_numbers(tmp_path: Path) -> None:
    for version in (2, 10):
        write_leaky(tmp_path, version=version)
    (tmp_path / "leaky" / ".part").mkdir()
    assert bundle.versions(tmp_path, "leaky") == [2, 10]
    assert list(bundle.models(tmp_path)) == [("leaky", 10)]
    assert bundle.versions(tmp_path, "nobody") == []
