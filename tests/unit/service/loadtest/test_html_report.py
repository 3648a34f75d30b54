"""The charts of a load test's report: each line has a colour of its own, and its name has the same."""

from __future__ import annotations

import re

from statestream.service.loadtest import svg_charts


def test_every_line_and_its_name_have_one_colour_and_no_two_share_it() -> None:
    names = ("p50", "p99", "p99.9", "max")
    chart = svg_charts.lines({name: [(0.0, 1.0), (1.0, 2.0)] for name in names}, "s", "ms", limit=5.0)
    lines = re.findall(r'<polyline class="(series-\d)"', chart)
    legend = dict(re.findall(r'<text class="(series-\d)"[^>]*>([^<]+)<', chart))
    assert [legend[kind] for kind in lines] == list(names)
    assert "deadline" in chart
    for kind in lines:
        # A rule with an element and a class beats `svg text`, which an attribute does not.
        assert f"svg text.{kind} {{ fill: var(--{kind}) }}" in svg_charts.STYLE
        assert f"polyline.{kind} {{ stroke: var(--{kind}) }}" in svg_charts.STYLE


def test_light_and_dark_have_every_colour() -> None:
    light, dark = svg_charts.STYLE.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\((--[\w-]+)\)", svg_charts.STYLE))
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", scheme))


def test_a_mark_at_the_right_edge_is_named_on_its_left() -> None:
    chart = svg_charts.bars([(1.0, 2.0, 3.0), (9.0, 10.0, 1.0)], "ms", "messages", {"p50": 1.5, "p99.9": 9.9})
    assert re.search(r'<text class="end"[^>]*>p99.9<', chart)
    assert not re.search(r'<text class="end"[^>]*>p50<', chart)
