"""Wiring of a neural circuit policy as SVG, from its manifest.

Layers are columns, with sensory neurons on the left. Excitatory synapses end in an arrow and inhibitory ones in a bar,
so that colour is not the only difference. Colours follow the viewer's preference for light or dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from statestream.models.spec import Manifest, WiringSpec
from statestream.service.errors import FailedPrecondition

_COLUMN = 210.0
_HEIGHT = 460.0
_MARGIN = 60.0
_TOP = 70.0
_NAMES = 110.0
"""Width for the names of inputs."""
_MOST_NAMES = 40

_STYLE = """
  .wiring { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --excite: #0a6cbd; --inhibit: #c2410c; }
  @media (prefers-color-scheme: dark) {
    .wiring { --ground: #14181d; --ink: #e6edf3; --soft: #9aa4b0; --excite: #5cb3ff; --inhibit: #ff9a5c; }
  }
  .wiring { background: var(--ground); font: 13px system-ui, sans-serif; }
  .wiring .ground { fill: var(--ground); }
  .wiring text { fill: var(--ink); }
  .wiring .count { fill: var(--soft); font-size: 11px; }
  .wiring circle { fill: var(--ground); stroke: var(--ink); stroke-width: 1.5; }
  .wiring .word.excites { fill: var(--excite); stroke: none; }
  .wiring .word.inhibits { fill: var(--inhibit); stroke: none; }
  .wiring path { fill: none; stroke-width: 1.1; }
  .wiring .excites { stroke: var(--excite); }
  .wiring .inhibits { stroke: var(--inhibit); }
  .wiring .arrow { fill: var(--excite); stroke: none; }
  .wiring .bar { stroke: var(--inhibit); stroke-width: 2.5; }
"""
_MARKERS = """
  <marker id="excites" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">
    <path class="arrow" d="M0 0 L8 4 L0 8 z"/></marker>
  <marker id="inhibits" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">
    <path class="bar" d="M6 0 L6 8"/></marker>
"""


class _Neuron(NamedTuple):
    x: float
    y: float
    radius: float
    column: int
    title: str


def wiring_svg(manifest: Manifest) -> str:
    """Draw a model's wiring.

    Raises:
        FailedPrecondition: the manifest has none.
    """
    wiring = manifest.wiring
    if wiring is None:
        raise FailedPrecondition(
            f"{manifest.ref} has no wiring: it is not a neural circuit policy, or an older version exported it",
            field="model",
        )
    labels = _labels(manifest, wiring)
    neurons = list(_neurons(wiring, labels))
    width = 2 * _MARGIN + _NAMES + _COLUMN * (len(wiring.layers) - 1)
    height = _TOP + _HEIGHT + _MARGIN / 2
    title = f"Wiring of {escape(manifest.ref)}"
    parts = [
        f'<svg class="wiring" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{title}">',
        f"<title>{title}</title><style>{_STYLE}</style><defs>{_MARKERS}</defs>",
        f'<rect class="ground" width="{width:g}" height="{height:g}"/>',
        *(_synapse(neurons[source], neurons[target], sign) for source, target, sign in wiring.synapses),
        *(_circle(neuron) for neuron in neurons),
        *_heads(wiring),
        *(_name(neuron, label) for neuron, label in zip(neurons, labels, strict=False)),
        f'<text class="word excites" x="{width / 2 - 12:g}" y="{height - 14:g}" text-anchor="end">→ excites</text>',
        f'<text class="word inhibits" x="{width / 2 + 12:g}" y="{height - 14:g}">⊣ inhibits</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _labels(manifest: Manifest, wiring: WiringSpec) -> Sequence[str]:
    """Names of the sensory neurons, if they are input elements that fit."""
    labels, sensory = manifest.inputs[0].labels, next(iter(wiring.layers.values()))
    return labels if len(labels) == sensory <= _MOST_NAMES else ()


def _neurons(wiring: WiringSpec, labels: Sequence[str]) -> Iterator[_Neuron]:
    for column, (name, count) in enumerate(wiring.layers.items()):
        gap = min(_HEIGHT / count, 34.0)
        radius = max(1.5, min(9.0, 0.36 * gap))
        first = _TOP + (_HEIGHT - gap * (count - 1)) / 2
        for k in range(count):
            title = f"{name} {k}" + (f": {labels[k]}" if column == 0 and labels else "")
            yield _Neuron(_MARGIN + _NAMES + _COLUMN * column, first + gap * k, radius, column, title)


def _synapse(source: _Neuron, target: _Neuron, sign: int) -> str:
    kind = "excites" if sign > 0 else "inhibits"
    if source.column == target.column:  # around the right side; a loop if it is its own target
        start, end = source.y - 0.5 * source.radius, target.y + 0.5 * target.radius
        bow = 26 + 0.35 * abs(source.y - target.y)
        x = source.x + source.radius
        line = f"M{x:.1f} {start:.1f} C{x + bow:.1f} {start - 8:.1f} {x + bow:.1f} {end + 8:.1f} {x + 2:.1f} {end:.1f}"
    else:
        start, end = source.x + source.radius, target.x - target.radius - 2
        middle, above, below = (start + end) / 2, source.y, target.y
        line = f"M{start:.1f} {above:.1f} C{middle:.1f} {above:.1f} {middle:.1f} {below:.1f} {end:.1f} {below:.1f}"
    return (
        f'<path class="{kind}" marker-end="url(#{kind})" d="{line}">'
        f"<title>{escape(source.title)} {kind} {escape(target.title)}</title></path>"
    )


def _circle(neuron: _Neuron) -> str:
    return (
        f'<circle cx="{neuron.x:.1f}" cy="{neuron.y:.1f}" r="{neuron.radius:.1f}">'
        f"<title>{escape(neuron.title)}</title></circle>"
    )


def _heads(wiring: WiringSpec) -> Iterator[str]:
    """Name and number of neurons of each column."""
    for column, (name, count) in enumerate(wiring.layers.items()):
        x = _MARGIN + _NAMES + _COLUMN * column
        yield f'<text x="{x:g}" y="30" text-anchor="middle">{name}</text>'
        yield f'<text class="count" x="{x:g}" y="46" text-anchor="middle">{count}</text>'


def _name(neuron: _Neuron, label: str) -> str:
    x, y = neuron.x - neuron.radius - 6, neuron.y + 4
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end">{escape(_short(label))}</text>'


def _short(label: str) -> str:
    """Shorten a name to its end, which distinguishes fields of one topic."""
    return label if len(label) <= 20 else f"…{label[-19:]}"
