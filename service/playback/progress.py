"""Progress of recordings being played: a bar on a terminal, and lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from statestream.models.data.recordings import Recording
from statestream.service.playback.play import Played

Say = Callable[[Callable[[], str]], None]


@contextmanager
def progress_of(
    recordings: Sequence[Recording], reconnects: Callable[[], int], console: Console, say: Say
) -> Iterator[Callable[[Played], None]]:
    """Yield a callback to call after each answer.

    The bar is removed at the end.

    Args:
        reconnects: returns the number of reconnects so far.
        say: called with the text of a line after each answer; it decides when to print one.
    """
    rows = sum(len(recording) for recording in recordings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{len(recordings)} recordings", total=rows)
        done: dict[int, int] = {}

        def update(played: Played) -> None:
            before = done.get(id(played), 0)
            done[id(played)] = played.done
            again = f", {reconnects()} reconnects" if reconnects() else ""
            progress.update(task, advance=played.done - before, description=f"{len(recordings)} recordings{again}")
            say(lambda: f"{sum(done.values()):,} of {rows:,} rows{again}")

        yield update
