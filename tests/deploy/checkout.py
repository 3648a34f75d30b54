"""This checkout as git has it, and the wheel that it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_checkout(checkout: Path, into: Path) -> None:
    """What git would take of a checkout."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (checkout / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, into / name)


def build_wheel(checkout: Path, into: Path) -> Path:
    """The wheel of a checkout for any machine, built in a copy, since builds leave things behind."""
    with tempfile.TemporaryDirectory() as name:
        copy_checkout(checkout, Path(name) / "copy")
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(into), str(Path(name) / "copy")]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"STATESTREAM_NATIVE": "0"})
    (wheel,) = into.glob("*.whl")
    return wheel
