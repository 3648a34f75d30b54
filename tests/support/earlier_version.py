"""The source of an earlier commit, to run its server and its client beside today's."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEFORE = "1ddd5a033c88b444b86ea74e06ce76f5b85f04d8"
"""The commit that today's version must work with: the last one of version 0.1 before the code moved into packages."""


@dataclass(frozen=True)
class Version:
    """A statestream that subprocesses can run.

    Args:
        checkout: its files.
        import_path: the folder that holds `statestream/`, first on PYTHONPATH; None: the one that is installed.
    """

    checkout: Path
    import_path: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a subprocess that is to import it."""
        return os.environ | ({} if self.import_path is None else {"PYTHONPATH": str(self.import_path)})


NOW = Version(ROOT)


def version_of(commit: str, folder: Path) -> Version:
    """A commit's files in `folder`, importable as installed ones are.

    Raises:
        LookupError: this is no clone, or one without the commit.
    """
    checkout, import_path = folder / "checkout", folder / "path"
    if shutil.which("git") is None or _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise LookupError(f"commit {commit[:7]} is not in this clone; fetch the whole history")
    checkout.mkdir()
    subprocess.run(["tar", "-x", "-C", checkout], input=_git("archive", commit).stdout, check=True)
    (import_path / "statestream").mkdir(parents=True)
    for name in ("models", "service", "proto"):
        (import_path / "statestream" / name).symlink_to(checkout / name)
    return Version(checkout, import_path)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "-C", ROOT, *arguments], capture_output=True, env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    )


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version before."""
    try:
        return version_of(BEFORE, tmp_path_factory.mktemp("before"))
    except LookupError as error:
        pytest.skip(str(error))
