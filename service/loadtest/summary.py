"""Summary of a report: pairs of a name and a text, for terminal and HTML."""

from __future__ import annotations

from typing import Any

from statestream.service.loadtest.capacity_search import Found
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.report import offered

Facts = list[tuple[str, str]]


def facts(plan: Plan, run: dict[str, Any], found: Found | None = None) -> Facts:
    """Summarise a run as name and text pairs; see `report.report`."""
    messages, server, tool = run["messages"], run["server"], run["tool"]
    lines = [
        ("model", f"{run['model']} at {run['target']}"),
        ("load", f"{offered(plan)}, {run['measured_s']:.1f} s measured"),
        ("messages", f"{messages['answered']} of {messages['due']} answered, {run['messages_per_s']:.0f}/s"),
        ("rows", f"{run['rows_per_s']:.0f}/s"),
        ("latency", _percentiles(run["latency"])),
        ("jitter", f"{run['jitter_ms']:.3f} ms"),
        ("late sends", f"{messages['late']}, of them {messages['late_by_tool']} by this tool"),
    ]
    if plan.deadline_ms:
        part = messages["missed_deadline"] / max(messages["due"], 1)
        lines.append(("deadline", f"{plan.deadline_ms:g} ms missed by {messages['missed_deadline']} ({part:.2%})"))
    lines.append(("verdicts", _counts(run["verdicts"]) or "none"))
    if run["statuses"]:
        lines.append(("errors", f"{_counts(run['statuses'])} (first: {run['first_error']})"))
    if run["notices"]:
        lines.append(("notices", _counts(run["notices"])))
    if run["reconnects"]["count"]:
        lines.append(("reconnects", f"{run['reconnects']['count']}, {_percentiles(run['reconnects'])}"))
    lines += _server(server)
    sender = {"native": "C++", "grpc": "grpc.aio"}[plan.sender]
    lines.append(
        ("this tool", f"{tool['cpu_percent']:.0f} % CPU, lag p99 {tool['lag']['p99_ms']:.2f} ms, sends by {sender}")
    )
    if run["verify"] is not None:
        lines.append(("verified", _verified(run["verify"])))
    if found is not None:
        sure = f" ({found.sure})" if found.sure else ""
        lines.append(("capacity", f"{found.streams} streams with p99 under {plan.deadline_ms:g} ms{sure}"))
    return lines


def _server(server: dict[str, Any]) -> Facts:
    lines = [
        ("server queue", _percentiles(server["queue"])),
        ("server turn", f"{_percentiles(server['compute'])}, {server['mean_batch']:.1f} sessions on average"),
    ]
    if server["pids"]:
        lines.append(
            (
                "server CPU",
                f"{server['cpu_percent']:.0f} %, {server['cpu_us_per_row']:.1f} µs a row, "
                f"{server['rss_mb']:.0f} MB resident",
            )
        )
    if (split := server["cpu_us_per_row_split"]) is not None:
        parts = ", ".join(f"{part} {us:.1f}" for part, us in split.items())
        lines.append(("of a row", f"{parts} µs (the rest: gRPC, sessions, batching)"))
    return lines


def _percentiles(summary: dict[str, float]) -> str:
    names = ("p50", "p90", "p95", "p99", "p99.9", "max")
    return ", ".join(f"{name} {summary[f'{name}_ms']:.2f}" for name in names) + " ms"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _verified(verify: dict[str, Any]) -> str:
    if not verify["wrong"]:
        return (
            f"all {verify['outputs']} outputs equal the offline rollout, to {verify['worst']:.1e} standard deviations"
        )
    return f"{verify['wrong']} of {verify['outputs']} outputs are WRONG, first {verify['first']}"
