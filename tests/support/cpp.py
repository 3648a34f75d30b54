"""Programs in C++, built by their Makefile."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_NEEDED = ("g++", "make", "protoc", "grpc_cpp_plugin", "pkg-config")


def missing() -> str:
    """What such a build lacks here; empty where nothing."""
    if lacking := [name for name in _NEEDED if shutil.which(name) is None]:
        return f"{', '.join(lacking)} missing"
    done = subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"])
    return "libgrpc++-dev or libprotobuf-dev missing" if done.returncode else ""


def build(folder: Path, out: Path) -> None:
    """Run `make` of a folder, without a warning; what it makes lands in `out`."""
    done = subprocess.run(["make", "-C", folder, f"OUT={out}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
