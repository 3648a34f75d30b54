"""Plots of the results: a panel a benchmark, a dot a model.

One has the scores and published ones beside them; the others have what a score costs, in time and in state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from statestream.models.experiments.experiments import BENCHMARKS, EXPERIMENTS, Benchmark
from statestream.models.experiments.results_page import Entries
from statestream.models.files import replacing

SHOWN = (
    "walker2d",
    "gesture_phase",
    "seq_mnist",
    "xor",
    "metro_traffic",
    "borealtc",
    "donkeycar",
    "rc_indoor",
    "wrist",
)
COLUMNS = 3
OURS, THEIRS = "#2563eb", "#b45309"
_PUBLISHED = re.compile(r"([A-Za-z][\w\- ]*?) (\d*\.?\d+)( %)?(?:,|;|$)")
_UNITS = {"mse": "mean squared error, less is better", "r2": "R²"}


def plot_results(folder: Path, content: Entries) -> None:
    """Write the plots of the content of results.json; without results to show, none."""
    for name, panel in PLOTS.items():
        _plot(folder / name, content, panel)


def _plot(path: Path, content: Entries, panel: Panel) -> None:
    shown = [benchmark for benchmark in BENCHMARKS if benchmark.name in SHOWN and models(benchmark, content)]
    if not shown:
        return
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.3 * rows), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, benchmark in zip(axes, shown, strict=False):
        panel(ax, benchmark, content)
        ax.set_title(benchmark.name, fontsize=10)
        ax.tick_params(labelsize=8)
    for ax in axes[len(shown) :]:
        ax.remove()
    if labels := axes[0].get_legend_handles_labels()[0]:
        figure.legend(handles=labels, loc="outside upper center", ncols=2, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def models(benchmark: Benchmark, content: Entries) -> dict[str, dict[str, Any]]:
    """The entry of a benchmark's metric by model."""
    return _by_model(benchmark, benchmark.metric, content)


def _by_model(benchmark: Benchmark, metric: str, content: Entries) -> dict[str, dict[str, Any]]:
    names = [e.name for e in EXPERIMENTS if e.benchmark == benchmark.name]
    keys = {name.partition(".")[2]: f"{name}.{metric}" for name in names}
    return {model: content[key] for model, key in keys.items() if key in content}


def published(benchmark: Benchmark) -> dict[str, float]:
    """Published scores by model, as numbers of the metric."""
    found = _PUBLISHED.findall(benchmark.published)
    return {name.strip(): float(value) / (100 if percent else 1) for name, value, percent in found}


def _scores(ax: Axes, benchmark: Benchmark, content: Entries) -> None:
    own, theirs = models(benchmark, content), published(benchmark)
    names = [*own, *(f"{name} " for name in theirs)]  # A space keeps a published model apart from ours.
    spread = [entry["std"] for entry in own.values()]
    ax.errorbar([e["value"] for e in own.values()], list(own), xerr=spread, fmt="o", color=OURS, label="measured here")
    ax.plot(list(theirs.values()), names[len(own) :], "D", color=THEIRS, markerfacecolor="none", label="published")
    ax.set_xlabel(_UNITS.get(benchmark.metric, "accuracy"), fontsize=8)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="x", alpha=0.3)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _against(cost: str, label: str, ax: Axes, benchmark: Benchmark, content: Entries) -> None:
    """Scores against what they cost; a baseline has no step and no state, and no dot."""
    costs = _by_model(benchmark, cost, content)
    dots = [(costs[m]["value"], e["value"], m) for m, e in models(benchmark, content).items() if m in costs]
    if not dots:
        return
    for k, (x, y, model) in enumerate(sorted(dots, key=lambda dot: dot[1])):
        ax.plot(x, y, "o", color=OURS)
        # Names in a column beside the panel: they would lie over each other where dots are near.
        ax.annotate(
            model,
            (x, y),
            xytext=(1.04, (k + 0.5) / len(dots)),
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": OURS, "alpha": 0.3, "linewidth": 0.6},
        )
    ax.set_xlim(0, 1.1 * max(x for x, _, _ in dots))
    ax.margins(y=0.25)
    ax.set_xlabel(label, fontsize=8)
    ax.set_ylabel(_UNITS.get(benchmark.metric, "accuracy").partition(",")[0], fontsize=8)
    ax.locator_params(nbins=5)
    ax.grid(alpha=0.3)


Panel = Callable[[Axes, Benchmark, Entries], None]
PLOTS: dict[str, Panel] = {
    "results.png": _scores,
    "results_time.png": partial(_against, "step_us_batch_1", "µs a step at batch 1"),
    "results_state.png": partial(_against, "state_bytes", "bytes of state a session"),
}
"""By file name."""
