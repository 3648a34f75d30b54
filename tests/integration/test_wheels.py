"""Wheels that `make wheels` built: every extension, for old systems, with nothing beside glibc, and small."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from tests.deploy.checkout import ROOT
from tests.deploy.native_wheels import built, extensions

OLDEST = {"GLIBC": (2, 17)}
"""Of manylinux2014."""
GLIBC = {f"lib{name}" for name in ("c.so.6", "m.so.6", "pthread.so.0", "dl.so.2", "rt.so.1")}
LOADERS = {"ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}
MOST_BYTES = 900_000
WHEELS = built()

if not WHEELS:
    pytest.skip("no wheels are here: make wheels builds them", allow_module_level=True)
if shutil.which("readelf") is None:
    pytest.skip("readelf is not installed (apt-get install binutils)", allow_module_level=True)

each = pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)


@each
def test_extensions_need_old_glibc_and_no_other_library(wheel: Path) -> None:
    for name, shared in extensions(wheel).items():
        assert shared.versions.keys() == OLDEST.keys(), f"{name}: {shared.versions}"
        assert shared.versions["GLIBC"] <= OLDEST["GLIBC"], f"{name}: {shared.versions}"
        assert shared.needed <= GLIBC | LOADERS, name


@each
def test_extensions_are_small_and_export_what_is_called_from_outside_alone(wheel: Path) -> None:
    inside = extensions(wheel)
    assert sum(shared.size for shared in inside.values()) <= MOST_BYTES
    for name, shared in inside.items():
        assert shared.stripped, name
        called = {"RegisterCustomOps"} if ".engine." in name else set()
        assert shared.exported == {f"PyInit_{name.rpartition('.')[2]}"} | called, name


@each
def test_a_wheel_has_every_extension_and_the_licence_of_nghttp2(wheel: Path) -> None:
    sources = {source.parent.relative_to(ROOT) for source in (ROOT / "service").rglob("*.cpp")}
    assert {name.rpartition(".")[0] for name in extensions(wheel)} == {
        ".".join(("statestream", *folder.parts)) for folder in sources
    }
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE.nghttp2"))
        assert "Tatsuhiro Tsujikawa" in archive.read(licence).decode()


def test_there_is_a_wheel_for_each_python_and_processor() -> None:
    for processor in ("x86_64", "aarch64"):
        assert built(processor, "cp311"), processor
        assert bool(built(processor, "cp310")) == bool(built("*", "cp310")), processor
