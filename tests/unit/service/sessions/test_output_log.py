"""What is remembered of results, against a plain dictionary."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.service.protocol.verdict import NO_OUTPUT, Verdict
from statestream.service.sessions.output_log import SettledRows, UnackedLog

SLOTS = 6


def block(rng: np.random.Generator, next_seq: np.ndarray) -> SettledRows:
    """A turn: some sessions, one to three rows each, some without output, outputs not in order of rows."""
    slots = np.concatenate([np.full(rng.integers(1, 4), s) for s in rng.permutation(SLOTS)[: rng.integers(1, SLOTS)]])
    seq = np.empty(len(slots), np.int64)
    for i, slot in enumerate(slots):
        next_seq[slot] += 1
        seq[i] = next_seq[slot]
    has = rng.random(len(slots)) < 0.8
    out = np.where(has, rng.permutation(len(slots)), NO_OUTPUT)
    y = np.zeros((len(slots), 1), np.float32)
    y[out[has], 0] = 1000 * slots[has] + seq[has]
    verdict = np.where(has, int(Verdict.APPLIED), int(Verdict.INVALID))
    return SettledRows(slots, seq, verdict, np.zeros(len(slots), np.float32), out, {"y": y})


@pytest.mark.parametrize("sweep_bytes", [0, 300, 1 << 30])
def test_a_session_finds_all_it_was_told_and_has_not_acknowledged(
    sweep_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UnackedLog, "_SWEEP_BYTES", sweep_bytes)
    rng = np.random.default_rng(0)
    log, acked, next_seq = UnackedLog(), np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    for _ in range(200):
        log.append(block(rng, next_seq), acked)
        slot = int(rng.integers(SLOTS))
        acked[slot] = rng.integers(acked[slot], next_seq[slot] + 1)
        if rng.random() < 0.2:
            for slot in range(SLOTS):
                known = log.unacked(slot, acked)
                seqs = [] if known is None else known.seq.tolist()
                assert seqs == list(range(acked[slot] + 1, next_seq[slot] + 1))
                if known is not None:
                    has = known.out != NO_OUTPUT
                    assert (known.verdict[has] == Verdict.APPLIED).all()
                    np.testing.assert_array_equal(known.outputs["y"][known.out[has], 0], 1000 * slot + known.seq[has])


def test_a_log_whose_rows_are_acknowledged_does_not_grow() -> None:
    rng = np.random.default_rng(0)
    log, next_seq = UnackedLog(), np.zeros(SLOTS, np.int64)
    for _ in range(20_000):
        log.append(block(rng, next_seq), next_seq)
    assert log.nbytes < 2 * UnackedLog._SWEEP_BYTES


def test_a_session_that_reuses_a_slot_finds_nothing_of_the_one_before() -> None:
    rng = np.random.default_rng(0)
    log, acked, next_seq = UnackedLog(), np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    for _ in range(20):
        log.append(block(rng, next_seq), acked)
    log.forget(np.array([3]), acked)
    assert log.unacked(3, acked) is None
    assert log.unacked(2, acked) is not None
