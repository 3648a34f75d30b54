"""Definitions of ROS messages that a log does not hold: of ROS 2 Humble, and of a folder beside the log.

Bags hold their definitions only since the release after Humble. A type of one's own is then read from
`message_definitions/PACKAGE/msg/TYPE.msg`, in the bag, beside it or a folder further up, as in a workspace of ROS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from statestream.models.data.readers.reader import Facts, imported
from statestream.models.data.tables import DataError

FOLDER = "message_definitions"

Definitions = Mapping[str, Any]
"""Definitions of types by name, as of rosbags."""


def with_known(path: Path, found: Definitions, kinds: Iterable[str], facts: Facts) -> dict[str, Any]:
    """Complete a log's definitions of types by those that are known.

    Args:
        found: definitions that the log has.
        kinds: types of its topics.

    Raises:
        DataError: a file of the folder cannot be read.
    """
    if not any(missing(found, kind) for kind in kinds):
        return dict(found)
    typesys = imported(path, "rosbags.typesys", "messages of ROS", facts)
    humble = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE).fielddefs
    return {**humble, **_of_folders(path, typesys), **found}


def needed(found: Definitions, kind: str) -> dict[str, Any]:
    """Definitions of a type and of those that it consists of, as far as there are any."""
    seen: set[str] = set()
    list(_missing(found, kind, seen))
    return {name: found[name] for name in seen if name in found}


def missing(found: Definitions, kind: str) -> str:
    """First type that a type consists of and that has no definition; empty: all have one."""
    return next(_missing(found, kind, set()), "")


def check_defined(path: Path, found: Definitions, kind: str) -> None:
    """Raise DataError if a type, or one that it consists of, has no definition."""
    lacking = missing(found, kind)
    if lacking:
        package, _, name = lacking.partition("/msg/")
        raise DataError(
            f"the log has no definition of {lacking}; put its file, and those of the types in it, into "
            f"{path.parent / FOLDER}: {package}/msg/{name}.msg"
        )


def _missing(found: Definitions, kind: str, seen: set[str]) -> Iterator[str]:
    if kind in seen:
        return
    seen.add(kind)
    if kind not in found:
        yield kind
        return
    for _, described in found[kind][1]:
        while described[0].name in ("ARRAY", "SEQUENCE"):
            described = described[1][0]
        if described[0].name == "NAME":
            yield from _missing(found, described[1], seen)


def _of_folders(path: Path, typesys: Any) -> dict[str, Any]:
    """Definitions in the folders of definitions; a nearer one counts before one further up."""
    found: dict[str, Any] = {}
    for folder in (path.parent.parent / FOLDER, path.parent / FOLDER, path / FOLDER):
        found |= definitions_in(folder, typesys)
    return found


def definitions_in(folder: Path, typesys: Any) -> dict[str, Any]:
    """Definitions in a folder, if there is one, of files `PACKAGE/msg/TYPE.msg`.

    Args:
        typesys: the module of rosbags.

    Raises:
        DataError: a file cannot be read.
    """
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*.msg")) if folder.is_dir() else ():
        package = file.parent.parent if file.parent.name == "msg" else file.parent
        try:
            found |= typesys.get_types_from_msg(file.read_text(), f"{package.name}/msg/{file.stem}")
        except Exception as error:
            raise DataError(f"{file}: cannot read the definition: {error}") from error
    return found
