"""Option `--time-unit` of commands that read recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from statestream.service.errors import InvalidArgument

if TYPE_CHECKING:
    from statestream.models.data.times import Unit


def unit_given(text: str | None) -> Unit | None:
    """Parse the unit. Raises InvalidArgument if it is none."""
    from statestream.models.data.times import Unit

    if text is not None and text not in get_args(Unit):
        raise InvalidArgument(f"'{text}', expected ns, us, ms or s", field="--time-unit")
    return cast("Unit | None", text)
