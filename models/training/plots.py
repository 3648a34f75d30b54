"""Plots of a training, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from statestream.models.data.recordings import Recording
from statestream.models.files import replacing
from statestream.models.spec import Array, Float32Array
from statestream.models.training.search_space import Tried

SHOWN_ROWS = 500


def plot_curves(path: Path, history: Sequence[dict[str, float]]) -> Figure:
    """Plot the loss, and validation scores if any, by epoch."""
    names = sorted({name for entry in history for name in entry} - {"epoch"})
    losses = [name for name in names if name in ("loss", "val_loss")]
    panels = [panel for panel in (("loss", losses), ("validation", sorted({*names} - {*losses}))) if panel[1]]
    figure = _figure(4 * max(1, len(panels)), 4)
    for axes, (title, shown) in zip(np.ravel(figure.subplots(1, len(panels), squeeze=False)), panels, strict=True):
        for name in shown:
            points = [(entry["epoch"], entry[name]) for entry in history if name in entry]
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) == 1 else None)
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.legend()
    _save(figure, path)
    return figure


def confusion(truth: Array, guess: Array, classes: int) -> Array:
    """`[C, C]` how often each true class (row) was predicted as each class (column)."""
    count = np.zeros((classes, classes), int)
    np.add.at(count, (truth, guess), 1)
    return count


def plot_confusion(path: Path, count: Array, labels: Sequence[str]) -> None:
    """Plot a confusion matrix."""
    figure = _figure(1.5 + 0.7 * len(labels), 1 + 0.7 * len(labels))
    axes = figure.subplots()
    share = count / np.maximum(1, count.sum(axis=1, keepdims=True))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), n in np.ndenumerate(count):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(n), ha="center", va="center", fontsize=8, color=colour)
    _save(figure, path)


def plot_regression(path: Path, recording: Recording, outputs: Float32Array, labels: Sequence[str]) -> Figure:
    """Plot target and prediction of each output for the start of a recording."""
    figure = _figure(9, 1 + 1.6 * len(labels))
    t_s = (recording.t_ns[:SHOWN_ROWS] - recording.t_ns[0]) * 1e-9
    grid = figure.subplots(len(labels), 1, squeeze=False, sharex=True)
    for k, (axes, label) in enumerate(zip(grid[:, 0], labels, strict=True)):
        axes.plot(t_s, np.asarray(recording.target)[:SHOWN_ROWS, k], label="target")
        axes.plot(t_s, outputs[:SHOWN_ROWS, k], label="prediction")
        axes.set_ylabel(label)
    grid[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    grid[-1, 0].set_xlabel("seconds")
    _save(figure, path)
    return figure


def plot_trials(tried: Sequence[Tried], names: Sequence[str], score: str) -> Figure:
    """Plot the score of trials in their order, and by each setting; pruned ones are hollow."""
    shown = [each for each in tried if np.isfinite(each.score)]
    columns = min(3, 1 + len(names))
    rows = -(-(1 + len(names)) // columns)
    figure = _figure(4 * columns, 3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[1 + len(names) :]:
        axes.set_visible(False)
    _plot_scores(grid[0], shown, [each.number for each in shown], "trial")
    for axes, name in zip(grid[1:], names, strict=False):
        own = [each for each in shown if name in each.settings]
        values = [each.settings[name] for each in own]
        is_rate = all(isinstance(value, float) for value in values)
        if is_rate:
            axes.set_xscale("log")
        _plot_scores(axes, own, values if is_rate else [str(value) for value in values], name)
        axes.tick_params(axis="x", rotation=0 if is_rate else 30)
    for axes in grid[::columns]:
        axes.set_ylabel(f"validation {score}")
    return figure


def _plot_scores(axes: Axes, tried: Sequence[Tried], x: Sequence[Any], title: str) -> None:
    for pruned, face in ((False, "C0"), (True, "none")):
        points = [(place, each.score) for place, each in zip(x, tried, strict=True) if each.pruned == pruned]
        if points:
            axes.scatter(*zip(*points, strict=True), facecolors=face, edgecolors="C0")
    axes.set_title(title)


def as_svg(figure: Figure) -> str:
    """A figure as an element of a page, in the page's colour of text and without a background."""
    for axes in figure.axes:
        if (legend := axes.get_legend()) is not None:
            legend.set_frame_on(False)
    buffer = StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor")


def plot_comparison(path: Path, models: Sequence[tuple[str, float, float, float]], score: str) -> None:
    """Plot score over cost of a step.

    `models`: (name, microseconds at batch 1, score, spread).
    """
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    for name, cost_us, mean, spread in models:
        axes.errorbar(cost_us, mean, spread, marker="o", capsize=3, label=name)
    axes.set_xlabel("µs a step in ONNX Runtime, batch 1")
    axes.set_ylabel(score)
    axes.legend()
    _save(figure, path)


def plot_streams(path: Path, models: Sequence[tuple[str, int, float, int]]) -> None:
    """Plot step cost and session size over stream length.

    `models`: (name, rows, microseconds, bytes).
    """
    figure = _figure(10, 4)
    for axes, column, label in zip(figure.subplots(1, 2), (2, 3), ("µs a step", "bytes a session"), strict=True):
        for name in dict.fromkeys(model[0] for model in models):
            points = [(model[1], model[column]) for model in models if model[0] == name]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("rows of the stream so far")
        axes.set_ylabel(label)
        axes.legend()
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
