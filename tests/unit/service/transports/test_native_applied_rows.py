"""Replies read in C++: what is read is what protobuf would have read, and replies of applied rows are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.proto.v1 import inference_pb2 as pb

_core = pytest.importorskip("statestream.service.transports.native._core", reason="the native transport is not built")
U32 = st.integers(0, 2**32 - 1)


def reply(rows: int = 1, **more: Any) -> pb.StreamResponse:
    plain = {
        "channel": range(rows), "seq": range(200, 200 + rows), "verdict": [pb.VERDICT_APPLIED] * rows,
        "dt_s": [0.1] * rows, "epoch": [3] * rows, "columns": [pb.Column(name="y", data=bytes(8 * rows))],
        "queue_us": 70, "compute_us": 300, "batch": 64,
    }  # fmt: skip
    return pb.StreamResponse(results=pb.Results(**(plain | more)))


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), U32, U32, U32)
def test_applied_rows_are_read(seqs: list[int], queue_us: int, compute_us: int, batch: int) -> None:
    whole = reply(len(seqs), seq=seqs, queue_us=queue_us, compute_us=compute_us, batch=batch)
    assert _core.applied_rows(whole.SerializeToString()) == (tuple(seqs), queue_us, compute_us, batch)


@pytest.mark.parametrize(
    "more",
    [
        {"verdict": [pb.VERDICT_BUSY]},
        {"verdict": []},
        {"original": [pb.VERDICT_APPLIED]},
        {"flags": [1]},
        {"details": [pb.Detail(row=0, text="why")]},
        {"columns": [pb.Column(name="y", frames=[b"jpeg"])]},
        {"seq": [], "verdict": []},
        {"seq": [1, 2]},
    ],
)
def test_other_rows_are_left_to_protobuf(more: dict[str, Any]) -> None:
    assert _core.applied_rows(reply(**more).SerializeToString()) is None


def test_more_than_results_is_left_to_protobuf() -> None:
    for more in (
        pb.StreamResponse(notices=[pb.Notice()]),
        pb.StreamResponse(failed=[pb.Failed()]),
        pb.StreamResponse(opened=[pb.Opened()]),
        pb.StreamResponse(progress=pb.Progress()),
        reply(),
    ):
        merged = reply().SerializeToString() + more.SerializeToString()
        assert _core.applied_rows(merged) is None
    assert _core.applied_rows(b"") is None


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 3), st.integers(0, 200), st.binary(max_size=4), st.integers(0, 3))
def test_what_is_read_is_what_protobuf_reads(rows: int, at: int, put: bytes, drop: int) -> None:
    raw = reply(rows).SerializeToString()
    raw = raw[: at % len(raw)] + put + raw[at % len(raw) + drop :]
    found = _core.applied_rows(raw)
    if found is not None:
        results = pb.StreamResponse.FromString(raw).results
        assert found == (tuple(results.seq), results.queue_us, results.compute_us, results.batch)
        assert set(results.verdict) == {pb.VERDICT_APPLIED}
