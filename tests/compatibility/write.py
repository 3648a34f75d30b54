"""`python -m tests.compatibility.write [COMMIT]`: store what users see of a commit, or of the working tree.

The lists in `stored/` were written from the commit that `tests.support.earlier_version` names. Write them again when
something is added on purpose, and read the difference: what goes or changes breaks users.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.compatibility import stored_lists
from tests.support.bundles import write_leaky
from tests.support.earlier_version import NOW, ROOT, Version, version_of


def surface_of(version: Version, folder: Path) -> dict[str, Any]:
    """What users see of a version, in a process of its own; `folder` is for its bundles."""
    for number in (1, 2):
        write_leaky(folder, version=number)
    command = [sys.executable, "-m", "tests.compatibility.surface", version.checkout, folder]
    told = subprocess.run(command, cwd=ROOT, env=version.environment, stdout=subprocess.PIPE, check=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def main() -> None:
    """Write the lists of the commit that is named, else of the working tree."""
    with tempfile.TemporaryDirectory() as folder:
        (repository := Path(folder, "repository")).mkdir()
        version = version_of(sys.argv[1], Path(folder)) if sys.argv[1:] else NOW
        for name, value in surface_of(version, repository).items():
            stored_lists.write(name, value)


if __name__ == "__main__":
    main()
