"""Line and bar charts with axes, as self-contained SVG text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 30, 45
_SERIES = 5
_LEGEND_STEP = 90

STYLE = """
:root { color-scheme: light dark; --text: #1f2937; --paper: #ffffff; --axis: #4b5563; --grid: #e5e7eb;
  --limit: #6b7280; --warn: #b45309; --series-0: #2563eb; --series-1: #b45309; --series-2: #dc2626;
  --series-3: #7c3aed; --series-4: #047857 }
@media (prefers-color-scheme: dark) { :root { --text: #e5e7eb; --paper: #111827; --axis: #9ca3af; --grid: #374151;
  --limit: #9ca3af; --warn: #fbbf24; --series-0: #60a5fa; --series-1: #fbbf24; --series-2: #f87171;
  --series-3: #c4b5fd; --series-4: #34d399 } }
svg { width: 100%; height: auto } .label { text-anchor: middle }
svg text { font-size: 11px; fill: var(--axis); paint-order: stroke; stroke: var(--paper); stroke-width: 3px }
.tick, .end { text-anchor: end } .grid { stroke: var(--grid) } .limit { stroke: var(--limit); stroke-dasharray: 5 4 }
polyline { fill: none; stroke-width: 1.8 } rect { fill: var(--series-0) }
""" + "".join(
    f"polyline.series-{k} {{ stroke: var(--series-{k}) }}\n"
    f"circle.series-{k}, svg text.series-{k} {{ fill: var(--series-{k}) }}\n"
    for k in range(_SERIES)
)
"""Colours and sizes of the charts, for the page that holds them; light and dark."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Maps values to positions, linear or logarithmic."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float, *, log: bool = False, zero: bool = False) -> Axis:
        """Build an axis that covers all values."""
        known = [v for v in values if not log or v > 0] or [1.0]
        low, high = (0.0 if zero and not log else min(known)), max(known)
        if log:
            low, high = 10 ** math.floor(math.log10(low) + 1e-9), 10 ** math.ceil(math.log10(high) - 1e-9)
        if high <= low:
            high = low * 10 if log else low + 1
        return cls(low, high, begin, end, log)

    def place(self, value: float) -> float:
        part = self._part(value)
        return self.begin + min(max(part, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Values to label."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = _round_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step)
        return [step * k for k in range(first, int(self.high / step + 1e-9) + 1)]

    def _part(self, value: float) -> float:
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def lines(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, *, limit: float = 0.0) -> str:
    """Draw named lines over a common x axis.

    `limit` draws a dashed horizontal line, the deadline.
    """
    points = [point for one in series.values() for point in one]
    x, y = _axes(points, limit, log_x=False)
    body = [_frame(x, y, x_label, y_label)]
    if limit > 0:
        level = y.place(limit)
        body.append(f'<line class="limit" x1="{x.begin}" x2="{x.end}" y1="{level:.1f}" y2="{level:.1f}"/>')
    for number, one in enumerate(series.values()):
        kind = f"series-{number % _SERIES}"
        path = " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in one)
        body.append(f'<polyline class="{kind}" points="{path}"/>')
        body += [f'<circle class="{kind}" cx="{x.place(a):.1f}" cy="{y.place(b):.1f}" r="2.5"/>' for a, b in one]
    body.append(_legend(list(series), deadline=limit > 0))
    return _svg(body)


def _legend(names: Sequence[str], *, deadline: bool) -> str:
    """Names in the colours of their lines, above the chart."""
    shown = [(f"series-{number % _SERIES}", name) for number, name in enumerate(names)]
    shown += [("", "- - deadline")] if deadline else []
    return "".join(
        f'<text class="{kind}" x="{_LEFT + _LEGEND_STEP * number}" y="{_TOP - 10}">{escape(name)}</text>'
        for number, (kind, name) in enumerate(shown)
    )


def bars(boxes: Sequence[tuple[float, float, float]], x_label: str, y_label: str, marks: dict[str, float]) -> str:
    """Draw bars (lower x, upper x, height) on a logarithmic x axis.

    `marks` are named x values.
    """
    edges = [edge for low, high, _ in boxes for edge in (low, high)]
    x = Axis.over(edges, _LEFT, WIDTH - _RIGHT, log=True)
    y = Axis.over([height for _, _, height in boxes], HEIGHT - _BOTTOM, _TOP, zero=True)
    body = [_frame(x, y, x_label, y_label)]
    for low, high, height in boxes:
        left, top = x.place(low), y.place(height)
        width = max(x.place(high) - left, 0.8)
        body.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{HEIGHT - _BOTTOM - top:.1f}"/>')
    places = [x.place(value) for value in marks.values()]
    body += [f'<line class="limit" x1="{a:.1f}" x2="{a:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>' for a in places]
    body += [_beside(a, _TOP + 12 + 14 * k, name) for k, (a, name) in enumerate(zip(places, marks, strict=True))]
    return _svg(body)


def _beside(place: float, y: float, text: str) -> str:
    """A text beside a vertical line: on its right, or on its left near the right edge."""
    left = place > WIDTH - _RIGHT - 50
    kind, x = (' class="end"', place - 3) if left else ("", place + 3)
    return f'<text{kind} x="{x:.1f}" y="{y}">{escape(text)}</text>'


def _axes(points: Sequence[Point], limit: float, *, log_x: bool) -> tuple[Axis, Axis]:
    x = Axis.over([a for a, _ in points], _LEFT, WIDTH - _RIGHT, log=log_x)
    heights = [b for _, b in points] + ([limit] if limit > 0 else [])
    spread = max(heights, default=1.0) / max(min((h for h in heights if h > 0), default=1.0), 1e-9)
    return x, Axis.over(heights, HEIGHT - _BOTTOM, _TOP, log=spread > 30, zero=True)


def _frame(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    parts = [_grid(x, _vertical), _grid(y, _horizontal)]
    parts.append(f'<text class="label" x="{(x.begin + x.end) / 2}" y="{HEIGHT - 8}">{escape(x_label)}</text>')
    parts.append(f'<text class="label" transform="translate(14 {HEIGHT / 2}) rotate(-90)">{escape(y_label)}</text>')
    return "".join(parts)


def _grid(axis: Axis, draw: Callable[[float, str], str]) -> str:
    return "".join(draw(axis.place(tick), f"{tick:g}") for tick in axis.ticks())


def _vertical(place: float, text: str) -> str:
    line = f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
    return line + f'<text class="label" x="{place:.1f}" y="{HEIGHT - _BOTTOM + 16}">{text}</text>'


def _horizontal(place: float, text: str) -> str:
    line = f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
    return line + f'<text class="tick" x="{_LEFT - 6}" y="{place + 4:.1f}">{text}</text>'


def _svg(body: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(body)}</svg>'


def _round_step(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * k for k in (1, 2, 5, 10) if size * k >= step - 1e-12)
