"""Report of a run as plain values for JSON, CSV and the terminal."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from statestream.models.files import replacing
from statestream.service.loadtest.coordinator import Outcome
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.process_usage import Usage

BUSY = 0.9
"""CPU time over wall time above which a process of this tool may send late."""
_LAG_US = 1000
_LAG_PART = 0.1
"""Largest lag as a part of latency. Lag is measured when sending; answers are read about as late."""


def report(outcome: Outcome) -> dict[str, Any]:
    """Convert an outcome to JSON values."""
    plan, tally = outcome.plan, outcome.tally
    seconds = max(outcome.measured_s, 1e-9)
    return {
        "model": outcome.manifest.ref,
        "target": plan.target,
        "plan": plan.model_dump(mode="json", exclude={"trace_s"}),
        "measured_s": outcome.measured_s,
        "messages": {
            "due": tally.due,
            "answered": tally.answered,
            "unanswered": tally.unanswered,
            "late": tally.late,
            "late_by_tool": tally.late_by_tool,
            "missed_deadline": tally.misses,
        },
        "messages_per_s": tally.answered / seconds,
        "rows_per_s": tally.rows / seconds,
        "latency": tally.latency.summary_ms(),
        "jitter_ms": tally.jitter_s / max(tally.answered - 1, 1) * 1000,
        "verdicts": dict(tally.verdicts),
        "statuses": dict(tally.statuses),
        "notices": dict(tally.notices),
        "first_error": tally.first_error,
        "reconnects": {"count": tally.reconnects, **tally.reconnect.summary_ms()},
        "server": _server(outcome),
        "tool": {
            "lag": tally.lag.summary_ms(),
            "cpu_percent": 100 * tally.cpu_s / seconds,
            "busiest_percent": 100 * tally.busiest,
            "bottleneck": bottleneck(outcome),
        },
        "verify": None if tally.verified is None else tally.verified.to_dict(),
        "seconds": intervals(tally.seconds, plan.interval_s),
    }


def bottleneck(outcome: Outcome) -> str:
    """Why the tool, not the server, may limit the figures.

    Empty: it does not.
    """
    tally = outcome.tally
    if tally.busiest > BUSY:
        return f"a process of the load test was busy {tally.busiest:.0%} of the time; use more --processes"
    lag_us, latency_us = tally.lag.p(99), tally.latency.p(99)
    if lag_us > max(_LAG_US, _LAG_PART * latency_us):
        return (
            f"the load test sent its messages {lag_us / 1000:.1f} ms late (p99), at a latency of "
            f"{latency_us / 1000:.1f} ms; use more --processes, or a less busy machine"
        )
    return ""


def failed(outcome: Outcome) -> str:
    """Why a run counts as failed; empty: it does not."""
    tally = outcome.tally
    if tally.verified is not None and tally.verified.wrong:
        return f"{tally.verified.wrong} of {tally.verified.outputs} outputs are wrong, first {tally.verified.first}"
    if tally.due and not tally.answered:
        return f"no message was answered: {tally.first_error}"
    return ""


def intervals(seconds: dict[int, Histogram], interval_s: int) -> list[dict[str, float]]:
    """Latency over time, one entry per interval."""
    return [
        {"second": second, "interval_s": interval_s, "messages": histogram.count, **histogram.summary_ms()}
        for second, histogram in sorted(seconds.items())
    ]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file with one line per interval, or per probe of a search."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["second"])
        writer.writeheader()
        writer.writerows(rows)


def offered(plan: Plan) -> str:
    """Describe the offered load in words."""
    each = {"fixed": f"{plan.rate_hz:g} messages/s", "poisson": f"{plan.rate_hz:g} messages/s, Poisson"}
    rows = f", {plan.channels} sessions x {plan.chunk} rows each" if plan.rows > 1 else ""
    return f"{plan.streams} streams x {each.get(plan.arrival, 'a trace')}{rows} ({plan.rows_per_s:.0f} rows/s)"


def _server(outcome: Outcome) -> dict[str, Any]:
    tally, usage = outcome.tally, outcome.usage
    own: dict[str, Any] = {
        "queue": tally.queue.summary_ms(),
        "compute": tally.compute.summary_ms(),
        "mean_batch": tally.batches / max(tally.responses, 1),
        "pids": [],
        "cpu_percent": None,
        "cpu_us_per_row": None,
        "cpu_us_per_row_split": None,
        "rss_mb": None,
    }
    if usage is not None and usage.seconds > 0:
        own["pids"] = list(usage.pids)
        own["cpu_percent"] = 100 * usage.cpu_s / usage.seconds
        rows = max(tally.rows / outcome.measured_s * usage.seconds, 1e-9)
        own["cpu_us_per_row"] = 1e6 * usage.cpu_s / rows
        own["cpu_us_per_row_split"] = _split(usage, rows)
        own["rss_mb"] = usage.rss_bytes / 2**20
    return own


def _split(usage: Usage, rows: float) -> dict[str, float] | None:
    """Split CPU microseconds per row: decoding pictures, running the model, the rest."""
    if usage.decode_s is None or usage.engine_s is None:
        return None
    rest_s = usage.cpu_s - usage.decode_s - usage.engine_s
    return {"decode": 1e6 * usage.decode_s / rows, "model": 1e6 * usage.engine_s / rows, "rest": 1e6 * rest_s / rows}
