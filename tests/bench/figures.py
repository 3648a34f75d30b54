"""What the rounds add up to: the keys of bench.json, the table, the plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from tests.bench.cases import CASES, Round
from tests.bench.driver import Measured
from tests.bench.servers import AFTERNOON, ECHO, OURS

# Key, the words for it, the bound, whether more is better.
BOUNDS: tuple[tuple[str, str, float | None, bool], ...] = (
    ("single_p50_vs_echo", "1 stream x 1 step: p50 over the echo's", 1.3, False),
    ("streams64_vs_echo", "64 streams x 1 step: steps/s over the echo's", 0.6, True),
    ("streams64_cpu_vs_echo", "64 streams x 1 step: server CPU over the echo's", None, False),
    ("streams64_vs_afternoon", "64 streams x 1 step: steps/s over the afternoon server's", 2.0, True),
    ("streams64_cpu_vs_afternoon", "64 streams x 1 step: server CPU over the afternoon server's", None, False),
    ("streams64_cpu_us", "64 streams x 1 step: server CPU a step, µs", None, False),
    ("streams64_busy", "64 streams x 1 step: server CPU over wall time (below 0.9 the load is the limit)", None, True),
    ("burst256_steps_s", "256 sessions x 1 row: steps/s", 250_000, True),
    ("burst256_cpu_us", "256 sessions x 1 row: server CPU a step, µs", 4.0, False),
    ("burst16_steps_s", "16 sessions x 1 row: steps/s", 45_000, True),
    ("chunk256_steps_s", "1 session x 256 rows: steps/s", 60_000, True),
    ("engine64_vs_run", "batch of 64: gather, run, scatter over the bare run", 1.3, False),
    ("catch_up_ratio", "a chunk of 1,000 over 1,000 messages, times faster", 5.0, True),
    ("bytes_per_idle_session", "an idle session beyond twice its state, bytes", 1024, False),
    ("streams1000_p99_ms", "1,000 streams at 5 Hz: p99, ms", 50.0, False),
    ("long_p50_ratio", "a step at the end of a long session over one at its begin: p50", 1.1, False),
    ("long_cpu_ratio", "the same: server CPU", 1.1, False),
    ("long_rss_ratio", "the same: server memory", 1.1, False),
    ("workers2_cpu_ratio", "2 workers, 64 connections: server CPU a step over one worker's", 1.15, False),
    ("workers2_spread", "the same: share of the worker with more to do", 0.7, False),
)


def keys(rounds: Sequence[Round]) -> dict[str, float]:
    """Medians over the rounds; ratios are taken within each."""

    def ratio(case: str, other: str, figure: Callable[[Measured], float]) -> float:
        return median(figure(r[case][OURS]) / max(figure(r[case][other]), 1e-9) for r in rounds)

    found = {
        "single_p50_vs_echo": ratio("single", ECHO, lambda m: m.p50_us),
        "streams64_vs_echo": ratio("streams64", ECHO, lambda m: m.steps_s),
        "streams64_cpu_vs_echo": ratio("streams64", ECHO, lambda m: m.cpu_us),
        "streams64_vs_afternoon": ratio("streams64", AFTERNOON, lambda m: m.steps_s),
        "streams64_cpu_vs_afternoon": ratio("streams64", AFTERNOON, lambda m: m.cpu_us),
    }
    for case in CASES:
        found[f"{case}_steps_s"] = median(r[case][OURS].steps_s for r in rounds)
        found[f"{case}_cpu_us"] = median(r[case][OURS].cpu_us for r in rounds)
        found[f"{case}_busy"] = median(r[case][OURS].busy for r in rounds)
        found[f"{case}_p50_us"] = median(r[case][OURS].p50_us for r in rounds)
    return found


def table(facts: dict[str, Any]) -> Table:
    """Figures beside their bounds."""
    rows = Table(title="quick: the figures mean nothing" if facts["quick"] else None, title_justify="left")
    for name in ("", "found", "bound", "key"):
        rows.add_column(name, justify="right" if name in ("found", "bound") else "left")
    for key, words, bound, more in BOUNDS:
        good = bound is None or (facts[key] >= bound if more else facts[key] <= bound)
        limit = "" if bound is None else f"{'≥' if more else '≤'} {bound:,g}"
        rows.add_row(words, f"[{'green' if good else 'red'}]{facts[key]:,.4g}[/]", limit, key)
    return rows


def draw(facts: dict[str, Any], path: Path) -> None:
    """Server CPU a step by case and server, and a long session's figures over its steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    for place, name in enumerate((ECHO, AFTERNOON, OURS)):
        there = [(k, case) for k, case in enumerate(CASES) if name in CASES[case][1]]
        heights = [median(r[case][name]["cpu_us"] for r in facts["rounds"]) for _, case in there]
        bars = left.bar([k + 0.27 * (place - 1) for k, _ in there], heights, 0.26, label=name)
        left.bar_label(bars, fmt="%.3g", fontsize=8)
    left.set(yscale="log", ylabel="server CPU a step, µs", xticks=range(len(CASES)), xticklabels=list(CASES))
    left.legend()
    steps = [look["step"] for look in facts["long"]]
    for key in ("p50_us", "cpu_us", "rss_mb"):
        right.plot(steps, [look[key] for look in facts["long"]], marker="o", label=key.replace("_", ", "))
    right.set(xscale="log", xlabel="steps of one session", ylim=(0, None))
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
