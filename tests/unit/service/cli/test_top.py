"""What `statestream top` shows of an overview."""

from __future__ import annotations

import math
from io import StringIO

from rich.console import Console

from statestream.service.cli.top import view
from statestream.service.client.admin import ModelFigures, Overview, SessionInfo


def model(**others: object) -> ModelFigures:
    known: dict[str, object] = {
        "name": "wrist", "version": 3, "role": "active", "sessions": 2, "waiting_rows": 7, "rows_per_s": 1234.4,
        "verdicts": {"APPLIED": 5000, "STALE": 12}, "failed_turns": 0, "mean_batch": 1.75, "queue_p50_s": 1e-4,
        "queue_p99_s": 1e-3, "compute_p50_s": 2.5e-4, "compute_p99_s": math.inf,
    }  # fmt: skip
    return ModelFigures(**(known | others))  # type: ignore[arg-type]


def session(name: str, latency_s: float | None = 0.00123, attached: bool = True) -> SessionInfo:
    return SessionInfo(
        session_id=name, owner="", model="wrist", version=3, epoch=1, settled_seq=5012, acked_seq=5000, durable_seq=0,
        last_timestamp_ns=None, idle_s=61.0, attached=attached, verdicts={"APPLIED": 10}, latency_s=latency_s,
    )  # fmt: skip


def shown(overview: Overview, most: int = 10) -> str:
    file = StringIO()
    Console(width=200, file=file).print(view("robot:50051", overview, most))
    return file.getvalue()


def test_models_and_sessions_are_shown_with_their_figures() -> None:
    sessions = [(session("left"), 50.0), (session("right", None, attached=False), 0.0)]
    text = shown(Overview([model()], sessions, total=2))
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "2 sessions" in lines["robot:50051"]
    for word in ("active", "1,234", "7", "1.8", "≤ 0.1 ms, ≤ 1 ms", "≤ 0.25 ms, > 1 s", "APPLIED 5,000 STALE 12"):
        assert word in lines["wrist:3"]
    assert "failed" not in lines["wrist:3"]
    assert "1.23 ms" in lines["left"]
    assert "yes" in lines["left"]
    assert "–" in lines["right"]
    assert "idle 61 s" in lines["right"]


def test_a_model_at_rest_has_no_figures_and_failed_turns_are_told() -> None:
    at_rest = dict.fromkeys(("mean_batch", "queue_p50_s", "queue_p99_s", "compute_p50_s", "compute_p99_s"))
    text = shown(Overview([model(**at_rest, failed_turns=4)], [], total=0))
    assert "–, –" in text
    assert "failed turns 4" in text


def test_where_there_is_room_for_few_the_busiest_are_shown_by_id() -> None:
    sessions = [(session(f"s{k}"), float(rate)) for k, rate in enumerate([3, 9, 1, 8])]
    text = shown(Overview([model()], sessions, total=40), most=2)
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert names[-2:] == ["s1", "s3"]
    assert "s0" not in names
    assert "40 sessions, 38 of them not shown" in text
