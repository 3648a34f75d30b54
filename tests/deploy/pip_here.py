"""How pip is configured on this machine: where it finds packages is known to its settings alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def _settings() -> dict[str, str]:
    """What pip is told on this machine, by file or environment."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    pairs = (line.split("=", 1) for line in said.stdout.splitlines())
    return {key.rpartition(".")[2]: value.strip("'\"") for key, value in pairs}


def paths() -> list[Path]:
    """Files and folders of this machine that its pip reads."""
    words = [CERTIFICATES.as_posix(), *(word for value in _settings().values() for word in value.split())]
    paths = [Path(unquote(urlsplit(word).path)) for word in words if word.startswith(("/", "file://"))]
    tops = {path.parent if path.name == "simple" else path for path in paths if path.exists()}
    return sorted(tops)


def configure(root: Path) -> None:
    """Let the pip of a root file system do as this machine's does; what `paths` names is bound into it."""
    lines = [f"{key} = {value}\n" for key, value in _settings().items()]
    (root / "etc/pip.conf").write_text("[global]\n" + "".join(lines))
    for bound in paths():
        inside = root / bound.relative_to("/")
        if bound.is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        elif not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
