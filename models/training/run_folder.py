"""Folder of a run, `runs/NAME`; where it exists, a new run gets a number: `runs/NAME-2`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from statestream.models.config import Config, load_config
from statestream.models.training.runs import CONFIG, LAST, RunError

GOALS = ("training.epochs",)
"""Fields that a resumed run may change."""


def new_folder(runs: Path, config: Config, *, overwrite: bool) -> Path:
    """Make the folder of a new run, with its configuration.

    Args:
        overwrite: empty `runs/NAME`, instead of making one with a number.

    Raises:
        RunError: the folder to overwrite is no run.
    """
    folder = runs / config.name
    if overwrite:
        _empty(folder)
    folder = _made(folder) if overwrite else _numbered(runs, config.name)
    write_config(folder, config)
    return folder


def folder_to_resume(runs: Path, config: Config, *, last: str = LAST, goals: Sequence[str] = GOALS) -> Path | None:
    """The newest run of this name and configuration that can go on; None: there is no run of this name.

    Args:
        last: file of a run that can go on.
        goals: fields that may differ.

    Raises:
        RunError: all runs of this name have another configuration; the text names its fields and values.
    """
    found = [folder for folder in _existing(runs, config.name) if (folder / last).is_file()]
    differing = [differences(load_config(folder / CONFIG), config, goals) for folder in found]
    for folder, fields in zip(reversed(found), reversed(differing), strict=True):
        if not fields:
            return folder
    if found:
        raise RunError(f"{found[-1]}: the run to resume was made with another configuration: {differing[-1]}")
    return None


def write_config(folder: Path, config: Config) -> None:
    """Write `config.json`."""
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n")


def differences(before: Config, now: Config, goals: Sequence[str] = GOALS) -> str:
    """Fields that differ, but the `goals`, with both values; empty: there are none."""
    values = [dict(_flat(config.model_dump(mode="json"))) for config in (before, now)]
    names = [name for name in {**values[0], **values[1]} if name not in goals]
    changed = [(name, *(each.get(name, "not set") for each in values)) for name in names]
    return ", ".join(f"{name} was {old}, now {new}" for name, old, new in changed if old != new)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _numbered(runs: Path, name: str) -> Path:
    """Make the folder after the last one of a name."""
    number = max((_number(folder, name) for folder in _existing(runs, name)), default=0) + 1
    while True:
        # Another training of this name may make it first.
        with suppress(FileExistsError):
            return _made(runs / (name if number == 1 else f"{name}-{number}"))
        number += 1


def _existing(runs: Path, name: str) -> list[Path]:
    """Folders of a name, by number."""
    found = [path for path in runs.iterdir() if _number(path, name)] if runs.is_dir() else []
    return sorted(found, key=lambda path: _number(path, name))


def _number(folder: Path, name: str) -> int:
    """1 of `NAME`, k of `NAME-k`, 0 of another name."""
    if folder.name == name:
        return 1
    match = re.fullmatch(re.escape(name) + r"-([1-9]\d*)", folder.name)
    return int(match[1]) if match else 0


def _empty(folder: Path) -> None:
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise RunError(f"{folder}: not empty, and not a run (no {CONFIG}); nothing was changed")
    shutil.rmtree(folder)
