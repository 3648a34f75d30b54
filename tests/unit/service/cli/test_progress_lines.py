"""Without a terminal, progress is a line from time to time."""

from __future__ import annotations

import io

from rich.console import Console

from statestream.service.cli.progress_lines import LINE_EVERY_S, ProgressLines
from tests.conftest import FakeClock


def test_a_line_is_printed_after_each_silence(clock: FakeClock) -> None:
    file = io.StringIO()
    lines = ProgressLines(Console(file=file), clock)
    for k in range(5):
        lines.show(lambda k=k: f"{k} rows")  # type: ignore[misc]
        clock.now_s += LINE_EVERY_S / 2
    assert file.getvalue() == "2 rows\n4 rows\n"


def test_a_terminal_gets_none(clock: FakeClock) -> None:
    file = io.StringIO()
    lines = ProgressLines(Console(file=file, force_terminal=True), clock)
    clock.now_s += 2 * LINE_EVERY_S
    lines.show(lambda: "rows")
    assert file.getvalue() == ""
