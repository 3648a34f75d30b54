"""HTML report: one self-contained file, without scripts or network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from statestream.models.files import replacing
from statestream.service.loadtest import svg_charts
from statestream.service.loadtest.capacity_search import Found
from statestream.service.loadtest.histogram import Histogram

_BARS_PER_DECADE = 40
_STYLE = f"""{svg_charts.STYLE}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--paper) }}
table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .2rem .9rem .2rem 0; text-align: left }}
th {{ vertical-align: top; white-space: nowrap }} td + td {{ font-variant-numeric: tabular-nums }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }} .warn {{ color: var(--warn); font-weight: 600 }}
"""


def write_html(
    path: Path, facts: Sequence[tuple[str, str]], run: dict[str, Any], latency: Histogram, found: Found | None
) -> None:
    """Write the report of a run, and of the search whose last run it is.

    Args:
        facts: pairs of a name and a text, as shown on the terminal.
        run: the result of `report.report`.
        found: the result of the search; None: there was none.
    """
    deadline_ms = float(run["plan"]["deadline_ms"])
    parts = [f"<h1>Load test of {escape(run['model'])}</h1>", _table(facts)]
    if run["tool"]["bottleneck"]:
        parts.append(f'<p class="warn">{escape(run["tool"]["bottleneck"])}</p>')
    if run["seconds"]:
        parts += ["<h2>Latency over time</h2>", _over_time(run["seconds"], deadline_ms)]
        parts += ["<h2>Latency distribution</h2>", _histogram(latency, run["latency"])]
    if found is not None:
        parts += ["<h2>Latency against streams</h2>", _against_streams(found, deadline_ms), _probes(found)]
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    head += f"<title>Load test of {escape(run['model'])}</title><style>{_STYLE}</style>"
    with replacing(path) as temporary:
        temporary.write_text(f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>")


def _over_time(seconds: Sequence[dict[str, float]], deadline_ms: float) -> str:
    names = {"p50": "p50_ms", "p99": "p99_ms", "p99.9": "p99.9_ms", "max": "max_ms"}
    series = {name: [(one["second"], one[key]) for one in seconds] for name, key in names.items()}
    return svg_charts.lines(series, "seconds", "ms", limit=deadline_ms)


def _histogram(latency: Histogram, summary: dict[str, float]) -> str:
    """Draw the HDR histogram's buckets, joined to bars of equal width on a logarithmic axis."""
    ratio = 10 ** (1 / _BARS_PER_DECADE)
    joined: list[tuple[float, float, float]] = []
    for low_us, _, count in latency.bars():
        low_ms = max(low_us, 1) / 1000
        if joined and low_ms < joined[-1][1]:
            begin, end, height = joined[-1]
            joined[-1] = (begin, end, height + count)
        else:
            joined.append((low_ms, low_ms * ratio, count))
    marks = {name: summary[f"{name}_ms"] for name in ("p50", "p99", "p99.9")}
    return svg_charts.bars(joined, "ms", "messages", marks)


def _against_streams(found: Found, deadline_ms: float) -> str:
    probes = sorted(found.probes, key=lambda probe: probe.streams)
    series = {
        "p50": [(float(probe.streams), probe.p50_ms) for probe in probes],
        "p99": [(float(probe.streams), probe.p99_ms) for probe in probes],
    }
    return svg_charts.lines(series, "streams", "ms", limit=deadline_ms)


def _probes(found: Found) -> str:
    rows = [asdict(probe) for probe in found.probes]
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else escape(str(value))


def _table(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts)
    return f"<table>{rows}</table>"
