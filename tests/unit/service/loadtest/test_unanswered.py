"""Answers are matched with the messages whose rows they are of."""

from __future__ import annotations

import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.loadtest.measurement import MeasuredWindow
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.unanswered import BrokenError, Unanswered
from statestream.service.protocol.verdict import Verdict


def unanswered(**plan: int) -> tuple[Unanswered, MeasuredWindow]:
    made = Plan.of(target="t", model="m", **plan)
    window = MeasuredWindow(made)
    window.set(0, 100)
    return Unanswered(made, window), window


def results(seqs: list[int], *verdicts: Verdict) -> pb.Results:
    return pb.Results(seq=seqs, verdict=[int(v) for v in verdicts or [Verdict.APPLIED] * len(seqs)])


def test_a_message_of_a_chunk_is_answered_with_its_last_row() -> None:
    sent, window = unanswered(chunk=2)
    sent.sent(0, 10)
    sent.sent(1, 20)
    sent.answers(results([1]), 30)
    assert len(sent) == 2
    sent.answers(results([2, 3, 4]), 40)
    assert len(sent) == 0
    tally = window.close()
    assert (tally.answered, tally.verdicts["APPLIED"]) == (2, 4)


def test_the_failure_names_the_verdict_that_settles_nothing() -> None:
    sent, _ = unanswered(chunk=2)
    sent.sent(0, 10)
    refused = results([1, 2], Verdict.BUSY, Verdict.APPLIED)
    refused.details.add(row=0, text="no room")
    with pytest.raises(BrokenError, match="BUSY: no room"):
        sent.answers(refused, 30)


def test_what_is_given_up_counts_as_unanswered() -> None:
    sent, window = unanswered()
    sent.sent(0, 10)
    sent.give_up([20, 30])
    sent.answers(results([1]), 40)
    tally = window.close()
    assert (len(sent), tally.unanswered, tally.answered) == (0, 3, 0)
