"""Live view of a run on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from statestream.service.loadtest.coordinator import OnProgress, Progress
from statestream.service.loadtest.report import offered

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = 60


@contextmanager
def live_view(console: Console, say: Callable[[Callable[[], str]], None]) -> Iterator[OnProgress]:
    """Yield a callback that shows progress: a view that is removed at the end.

    Args:
        say: called with the text of a line where there is no terminal; it decides when to print one.
    """
    if not console.is_terminal:
        yield lambda progress: say(lambda: _line(progress))
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield lambda progress: live.update(_table(progress), refresh=True)


def _line(progress: Progress) -> str:
    numbers = progress.numbers
    answered = f"{numbers.get('answered', 0)} of {numbers.get('due', 0)} due messages answered"
    return f"{progress.plan.streams} streams, {_stage(progress)}: {answered}"


def _stage(progress: Progress) -> str:
    passed_s = (time.monotonic_ns() - progress.begin_ns) / 1e9
    return (
        f"warming up, {-passed_s:.0f} s left" if passed_s < 0 else f"{passed_s:.0f} of {progress.plan.duration_s:.0f} s"
    )


def _table(progress: Progress) -> Table:
    plan, numbers = progress.plan, progress.numbers
    table = Table(
        title=f"{plan.model} at {plan.target}: {offered(plan)}", show_header=False, title_justify="left", min_width=70
    )
    table.add_row("time", _stage(progress))
    table.add_row("answered", f"{numbers.get('answered', 0)} of {numbers.get('due', 0)} due")
    if progress.seconds:
        newest = progress.seconds[max(progress.seconds)].summary_ms()
        table.add_row("last second", ", ".join(f"{p} {newest[f'{p}_ms']:.2f}" for p in ("p50", "p99", "max")) + " ms")
        table.add_row("p99 over time", _spark([progress.seconds[s].p(99) for s in sorted(progress.seconds)]))
    table.add_row("late sends", str(numbers.get("late", 0)))
    if plan.deadline_ms:
        table.add_row("deadline misses", str(numbers.get("misses", 0)))
    table.add_row("errors", str(numbers.get("errors", 0)))
    if (usage := progress.usage) is not None:
        table.add_row("server", f"{100 * usage.cpu_s / usage.seconds:.0f} % CPU, {usage.rss_bytes / 2**20:.0f} MB")
    return table


def _spark(values: list[int]) -> str:
    shown = values[-_SHOWN:]
    top = max(*shown, 1)
    return "".join(_BLOCKS[min(8, 1 + value * 7 // top)] for value in shown) + f" up to {top / 1000:.2f} ms"
