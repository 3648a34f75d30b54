"""What is wrong with a bundle is said, and said of the right part."""

from __future__ import annotations

import io
import json
import os
import zipfile
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


@pytest.mark.parametrize("name", ["manifest.json", "step.onnx", "golden.npz"])
def test_a_pipe_or_folder_in_place_of_a_file_is_named_and_nothing_waits(path: Path, name: str) -> None:
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(BundleError, match=f"cannot read {name}: Is no regular file"):
        Bundle.open(path)
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(BundleError, match=f"cannot read {name}: Is a directory"):
        Bundle.open(path)


def test_an_array_that_is_not_asked_for_is_not_unpacked(path: Path) -> None:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": (2**60,)})
    with zipfile.ZipFile(path / "golden.npz", "a") as archive:
        archive.writestr("extra.npy", array.getvalue())
    assert "x" in bundle.read_golden(path, bundle.read_manifest(path)).inputs


def test_a_recording_that_unpacks_to_more_than_the_bound_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(path / "golden.npz") as archive:
        arrays = dict(archive)
    arrays["input_x"] = np.zeros((10**6, 2), np.float32)
    np.savez_compressed(path / "golden.npz", **arrays)
    monkeypatch.setattr(bundle, "_GOLDEN_BYTES", 10**6)
    with pytest.raises(BundleError, match=r"golden\.npz unpacks to 80\d{5} bytes, at most 1000000 are read"):
        bundle.read_golden(path, bundle.read_manifest(path))


def test_a_manifest_that_no_message_can_carry_is_refused(path: Path) -> None:
    edit(path, description="x" * (4 << 20))
    with pytest.raises(BundleError, match=r"manifest\.json has 4\d{6} bytes, at most 4194304 are allowed"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 2**63), ("states", [{"name": "h", "shape": [2**32]}]), ("tolerance", float("inf"))],
)
def test_a_number_that_no_message_can_carry_is_refused(path: Path, field: str, value: object) -> None:
    edit(path, **{field: value})
    with pytest.raises(BundleError, match=rf"manifest\.json: {field}.*: Input should be "):
        Bundle.open(path)


@pytest.mark.parametrize(
    "text", ['{"name": ' + "[" * 100_000, '{"name": "' + "x" * 100_000 + '"}'], ids=["no JSON", "no name"]
)
def test_a_wrong_value_is_shown_in_short(path: Path, text: str) -> None:
    (path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json: ") as error:
        Bundle.open(path)
    assert len(str(error.value)) < 300 + len(str(path))


def test_a_file_name_that_cannot_be_is_named(path: Path) -> None:
    edit(path, files={**json.loads((path / "manifest.json").read_text())["files"], "a\0b": "0"})
    with pytest.raises(BundleError, match=r"'a\\x00b', which is not a plain file name"):
        Bundle.open(path)


def test_a_folder_whose_name_is_no_text_is_passed_over(tmp_path: Path) -> None:
    write_leaky(tmp_path)
    (tmp_path / os.fsdecode(b"no\xfftext") / "1").mkdir(parents=True)
    assert list(bundle.models(tmp_path)) == [("leaky", 1)]
