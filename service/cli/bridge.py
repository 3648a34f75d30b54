"""`statestream bridge`: joins live topics to a session, and publishes predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.text import Text

from statestream.service.cli.console import AsJson, err, out, print_json
from statestream.service.cli.interrupts import stopping

if TYPE_CHECKING:
    from statestream.service.bridge.config import BridgeConfig
    from statestream.service.bridge.run import Tally


def bridge(
    config: Annotated[Path, typer.Argument(help="TOML file with session, middleware and topics.")],
    as_json: AsJson = False,
) -> None:
    """Join live topics of DDS, Zenoh or MQTT to a session, and publish its predictions, until Ctrl-C.

    Each message of the first topic is a row, with the newest values of the others. It needs no installation of ROS.
    A session with a name continues when the command is started again.

    [bold]Examples[/]

      statestream bridge bridge.toml

      ROS_DOMAIN_ID=7 statestream bridge zenoh.toml

      STATESTREAM_TARGET=edge:50051 statestream bridge mqtt.toml --json

    [bold]A file[/]

      session = { model = "terrain", name = "husky-1" }

      middleware = { kind = "zenoh" }

      topics = [ { name = "/imu/data", type = "sensor_msgs/msg/Imu" } ]
    """
    from statestream.service.bridge.config import read_config

    tally = asyncio.run(_run(read_config(config)))
    if as_json:
        print_json(figures(tally))
    else:
        out.print(line(tally), highlight=False, markup=False)


async def _run(config: BridgeConfig) -> Tally:
    from statestream.service.bridge.run import run_bridge

    with _status() as on_change, stopping() as stop:
        return await run_bridge(config, stop, on_change)


@contextmanager
def _status() -> Iterator[Callable[[Tally], None]]:
    """Yield a callback that shows a line: live on a terminal, else at each change of the state."""
    if not err.is_terminal:
        yield _Lines()
        return
    with Live(console=err, transient=True, refresh_per_second=4) as live:
        yield lambda tally: live.update(Text(line(tally)))


class _Lines:
    """Prints a line when the state changes."""

    def __init__(self) -> None:
        self._state = ""

    def __call__(self, tally: Tally) -> None:
        """Print it if it is another one."""
        if tally.state != self._state:
            self._state = tally.state
            err.print(line(tally), highlight=False, markup=False, soft_wrap=True)


def line(tally: Tally) -> str:
    """State and figures in a line."""
    messages = ", ".join(f"{topic} {tally.messages[topic]}" for topic in tally.topics)
    verdicts = ", ".join(f"{name} {count}" for name, count in tally.verdicts.items()) or "no predictions"
    parts = [f"{messages} → {tally.published}: {verdicts}"] if tally.topics else []
    if tally.latency_s == tally.latency_s:
        parts.append(f"{tally.latency_s * 1e3:.1f} ms")
    others = {"lost": tally.lost, "refused": tally.refused, "reconnects": tally.reconnects}
    parts += [f"{count} {name}" for name, count in others.items() if count]
    return "; ".join([tally.state, *parts, *([tally.problem] if tally.problem else [])])


def figures(tally: Tally) -> dict[str, object]:
    """Figures for `--json`."""
    names = ("published", "refused", "lost", "reconnects")
    return {name: getattr(tally, name) for name in names} | {
        "messages": dict(tally.messages),
        "verdicts": dict(tally.verdicts),
    }
