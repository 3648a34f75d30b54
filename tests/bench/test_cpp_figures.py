"""Figures of the C++ sender: ratios within a round, and a mark where the sender is the limit."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from rich.console import Console

from tests.bench import cpp_figures, ways
from tests.bench.cpp_sender import BESIDES, LOADS, Sent
from tests.bench.servers import CPP_ECHO, GRPC, OURS


def sent(cpu_us: float, *, bounded: bool = False) -> Sent:
    return Sent(1e6 / cpu_us, cpu_us, 2 * cpu_us, 3 * cpu_us, 4 * cpu_us, 1.0, 0.95 if bounded else 0.5, 0, bounded)


ROUNDS = [
    {load: {CPP_ECHO: sent(10.0 * speed), OURS: sent(50.0 * speed, bounded=load == "burst256")} for load in LOADS}
    | {"sqlite64": {OURS: sent(50.0 * speed), GRPC: sent(200.0 * speed)}}
    for speed in (1.0, 3.0)
]


def test_ratios_are_of_one_round() -> None:
    keys = cpp_figures.keys(ROUNDS)
    for load in LOADS:
        assert keys[f"{load}_cpu_vs_cpp_echo"] == pytest.approx(5.0)
        assert keys[f"{load}_p50_vs_cpp_echo"] == pytest.approx(5.0)
        assert keys[f"{load}_vs_cpp_echo"] == pytest.approx(0.2)
    for kind in ("_cpu", "_p50", "_p99", "_p999"):
        assert keys[f"sqlite64{kind}_vs_grpc"] == pytest.approx(0.25)
    assert keys["sqlite64_vs_grpc"] == pytest.approx(4.0)
    assert "sqlite64_vs_cpp_echo" not in keys


def test_the_page_s_table_has_every_load_and_the_range_of_its_runs() -> None:
    assert set(ways.ROWS) == {*LOADS, *BESIDES}
    found = cpp_figures.keys(ROUNDS)
    assert {column.format("single").replace("grpc", "cpp_echo") for column in ways.COLUMNS.values()} <= set(found)
    runs = [{"single_vs_grpc": value} for value in (3.0, 1.0, 4.0)]
    assert ways.cell(runs, "single_vs_grpc") == "3.00 (1.00–4.00)"
    assert ways.cell(runs[:1], "single_vs_grpc") == "3.00"
    assert ways.cell(runs, "burst16_vs_grpc") == "–"


def test_a_row_that_the_sender_bounds_says_so() -> None:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(
            cpp_figures.table(
                [{load: {k: asdict(v) for k, v in by.items()} for load, by in each.items()} for each in ROUNDS]
            )
        )
    marked = [line for line in capture.get().splitlines() if "bounded by it" in line]
    assert len(marked) == 1
    assert "burst256" in marked[0]
    assert OURS in marked[0]
