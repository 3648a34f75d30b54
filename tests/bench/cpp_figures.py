"""What the rounds beside the C++ echo add up to: keys of bench.json, and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from tests.bench.cpp_sender import Round, Sent
from tests.bench.servers import CPP_ECHO, GRPC, OURS

NAMES = {CPP_ECHO: "cpp_echo", GRPC: "grpc"}
"""Of servers in keys."""
FIGURES: dict[str, Callable[[Sent], float]] = {
    "": lambda sent: sent.messages_s,
    "_cpu": lambda sent: sent.cpu_us,
    "_p50": lambda sent: sent.p50_us,
    "_p99": lambda sent: sent.p99_us,
    "_p999": lambda sent: sent.p999_us,
}


def keys(rounds: Sequence[Round]) -> dict[str, float]:
    """Medians over the rounds of each load's ratios to the echo and to gRPC's library, taken within a round."""

    def ratio(load: str, other: str, figure: Callable[[Sent], float]) -> float:
        return median(figure(r[load][OURS]) / max(figure(r[load][other]), 1e-9) for r in rounds)

    return {
        f"{load}{kind}_vs_{name}": ratio(load, other, figure)
        for load, by in rounds[0].items()
        for other, name in NAMES.items()
        for kind, figure in FIGURES.items()
        if other in by
    }


def table(rounds: Sequence[dict[str, dict[str, Any]]]) -> Table:
    """Medians of each load and server, of rounds as bench.json has them."""
    rows = Table(title="by the C++ sender", title_justify="left")
    for name in ("load", "server", "messages/s", "CPU a message, µs", "p50, µs", "p99, µs", "sender's CPU, of a core"):
        rows.add_column(name, justify="left" if name in ("load", "server") else "right")
    for load, by in rounds[0].items():
        for server in by:
            of = [each[load][server] for each in rounds]
            figures = [median(sent[name] for sent in of) for name in ("messages_s", "cpu_us", "p50_us", "p99_us")]
            rows.add_row(load, server, *(f"{figure:,.4g}" for figure in figures), _sender(of))
    return rows


def _sender(of: Sequence[dict[str, Any]]) -> str:
    """The sender's CPU, marked if it set the messages a second of any round."""
    share = f"{median(sent['sender_busy'] for sent in of):.2f}"
    return f"bounded by it: {share}" if any(sent["bounded"] for sent in of) else share
