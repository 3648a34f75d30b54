"""Page of a finished training, `report.html`: one file, without scripts or network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from statestream.models.config import Config
from statestream.models.spec import Array
from statestream.models.training.baselines import lost_to, words
from statestream.models.training.plan import Plan
from statestream.models.training.tasks import ranked_by

_STYLE = """
:root { color-scheme: light dark; --text: #1f2937; --page: #fff; --line: #d1d5db; --accent: #2563eb; --warn: #b45309 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e5e7eb; --page: #111827; --line: #374151; --accent: #60a5fa; --warn: #fbbf24 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--page) }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } .wide { overflow-x: auto }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
.confusion td { padding: .3rem .6rem; text-align: right; border: 1px solid var(--line) }
.confusion th { padding: .3rem .6rem; border: 0 }
.best { font-weight: 700 } .warn { color: var(--warn); font-weight: 600 }
svg { max-width: 100%; height: auto } svg text { fill: currentColor } code { overflow-wrap: anywhere }
"""


@dataclass(frozen=True)
class Worst:
    """A test recording of a large loss."""

    recording: str
    group: str
    rows: int
    loss: float
    score: float
    """The score that ranks models."""


def report_page(
    config: Config, plan: Plan, metrics: Mapping[str, Any], *, curves: str, predictions: str, worst: Sequence[Worst]
) -> str:
    """Build the page.

    Args:
        metrics: content of `metrics.json`.
        curves: element of the loss by epoch.
        predictions: element of the predictions on the test split.
    """
    parts = [f"<p>{escape(config.description)}</p>" if config.description else ""]
    lost = lost_to(metrics["test"], metrics["baselines"], config.task.kind)
    parts += [_paragraph(text) for text in (*plan.warnings, *lost)]
    parts += ["<h2>Scores on the test split</h2>", wide(_scores(metrics))]
    parts += ["<h2>What was trained on</h2>", facts_table({**plan.facts, **_more(metrics)})]
    parts += ["<h2>Loss and validation by epoch</h2>", curves, "<h2>Predictions on the test split</h2>"]
    parts += [wide(predictions), "<h2>Recordings of the largest loss</h2>", wide(_worst_table(metrics, worst))]
    return document(f"Training of {config.name}", parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A page with its title and style, of elements."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = f"<h1>{escape(title)}</h1>{''.join(parts)}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def confusion_table(count: Array, labels: Sequence[str]) -> str:
    """A confusion matrix: true classes (rows) by predicted classes (columns)."""
    share = count / count.sum(axis=1, keepdims=True).clip(1)
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = [
        f"<tr><th>{escape(label)}</th>{''.join(map(_confused, count[k], share[k]))}</tr>"
        for k, label in enumerate(labels)
    ]
    return f'<table class="confusion"><tr><th>true, predicted</th>{head}</tr>{"".join(rows)}</table>'


def _confused(count: int, share: float) -> str:
    # Half of the accent at most: the number stays legible in light and dark.
    return f'<td style="background: color-mix(in srgb, var(--accent) {50 * share:.0f}%, transparent)">{count}</td>'


def _scores(metrics: Mapping[str, Any]) -> str:
    rows = {"network": metrics["test"], **{words(name): its for name, its in metrics["baselines"].items()}}
    names = list(metrics["test"])
    best = {name: _best(name, [its[name] for its in rows.values() if name in its]) for name in names}
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
    body = [
        f"<tr><th>{escape(model)}</th>{''.join(_score(its.get(name), best[name]) for name in names)}</tr>"
        for model, its in rows.items()
    ]
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _best(name: str, values: Sequence[float]) -> float:
    return min(values) if name in ("loss", "mse", "mae") else max(values)


def _score(value: float | None, best: float) -> str:
    if value is None:
        return "<td></td>"
    return f'<td class="best">{value:.4g}</td>' if value == best else f"<td>{value:.4g}</td>"


def _more(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What is known after the training, with the command that repeats it."""
    more = {"trained": f"{metrics['steps']:,} steps in {metrics['seconds']:.0f} s", "seed": str(metrics["seed"])}
    if metrics["stopped"]:
        more["ended"] = metrics["stopped"]
    if metrics["command"]:
        more["command"] = metrics["command"]
    return more


def facts_table(facts: Mapping[str, str]) -> str:
    """A table of names and texts; that of `command` is code."""
    cells = {
        name: f"<code>{escape(text)}</code>" if name == "command" else escape(text) for name, text in facts.items()
    }
    return f"<table>{''.join(f'<tr><th>{name}</th><td>{cell}</td></tr>' for name, cell in cells.items())}</table>"


def _worst_table(metrics: Mapping[str, Any], worst: Sequence[Worst]) -> str:
    name, _ = ranked_by(metrics["test"])
    head = "".join(f"<th>{each}</th>" for each in ("recording", "group", "rows", "loss", name))
    rows = [
        f"<tr><td>{escape(each.recording)}</td><td>{escape(each.group)}</td><td>{each.rows:,}</td>"
        f"<td>{each.loss:.4g}</td><td>{each.score:.4g}</td></tr>"
        for each in worst
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _paragraph(text: str) -> str:
    return f'<p class="warn">{escape(text[0].upper() + text[1:])}</p>'


def wide(content: str) -> str:
    """An element that scrolls where it is wider than the page."""
    return f'<div class="wide">{content}</div>'
