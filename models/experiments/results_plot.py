"""Plot of the results: a panel a benchmark, a dot a model, and published scores beside them."""

from __future__ import annotations

import re
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


def plot_results(path: Path, content: Entries) -> None:
    """Write the plot of the content of results.json; without results to show, nothing."""
    shown = [benchmark for benchmark in BENCHMARKS if benchmark.name in SHOWN and models(benchmark, content)]
    if not shown:
        return
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.3 * rows), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, benchmark in zip(axes, shown, strict=False):
        _panel(ax, benchmark, content)
    for ax in axes[len(shown) :]:
        ax.remove()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def models(benchmark: Benchmark, content: Entries) -> dict[str, dict[str, Any]]:
    """The entry of a benchmark's metric by model."""
    names = [e.name for e in EXPERIMENTS if e.benchmark == benchmark.name]
    keys = {name.partition(".")[2]: f"{name}.{benchmark.metric}" for name in names}
    return {model: content[key] for model, key in keys.items() if key in content}


def published(benchmark: Benchmark) -> dict[str, float]:
    """Published scores by model, as numbers of the metric."""
    found = _PUBLISHED.findall(benchmark.published)
    return {name.strip(): float(value) / (100 if percent else 1) for name, value, percent in found}


def _panel(ax: Axes, benchmark: Benchmark, content: Entries) -> None:
    own, theirs = models(benchmark, content), published(benchmark)
    names = [*own, *(f"{name} " for name in theirs)]  # A space keeps a published model apart from ours.
    spread = [entry["std"] for entry in own.values()]
    ax.errorbar([e["value"] for e in own.values()], list(own), xerr=spread, fmt="o", color=OURS, label="measured here")
    ax.plot(list(theirs.values()), names[len(own) :], "D", color=THEIRS, markerfacecolor="none", label="published")
    ax.set_title(benchmark.name, fontsize=10)
    ax.set_xlabel(_UNITS.get(benchmark.metric, "accuracy"), fontsize=8)
    ax.tick_params(labelsize=8)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="x", alpha=0.3)
    ax.set_ylim(len(names) - 0.5, -0.5)
