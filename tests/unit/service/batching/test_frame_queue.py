"""Encoded pictures wait as they came, and only those are decoded whose rows run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from statestream.models.spec import Array, BoolArray, Float32Array, Tensors
from statestream.service.batching.batcher import Batcher, Limits
from statestream.service.batching.results import TurnResults
from statestream.service.batching.step_columns import StepColumns
from statestream.service.client.core.codec import steps_message
from statestream.service.client.core.retransmit_buffer import RetransmitBuffer
from statestream.service.client.core.row_block import RowBlock
from statestream.service.client.inputs import row_of, rows_of
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.protocol.verdict import RowFlag, Verdict
from statestream.service.serving.frame_decoder import check_pictures, decoded
from statestream.service.sessions.policy import Policy
from statestream.service.sessions.table import SessionTable
from tests.conftest import FakeClock
from tests.support.cameras import HEIGHT, NOMINAL_S, WIDTH, camera_manifest, camera_rollout, encoded, film, seen

MANIFEST = camera_manifest()
FRAME_BYTES = HEIGHT * WIDTH * 3
PICTURES = encoded(film(12))
IMU = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)


class Camera:
    """The model of `cameras` in numpy; notes how many steps it ran of each session."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, ...]] = []

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        y, after = self.chunk(
            {name: x[:, None] for name, x in inputs.items()}, dt_B1[:, None], np.ones(dt_B1.shape, np.bool_), states
        )
        return {"y": y["y"][:, 0]}, after

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        self.steps.append(dt_BT1.shape[:2])
        y, h = np.zeros((*dt_BT1.shape[:2], 2), np.float32), states["h"].copy()
        for b, t in np.argwhere(valid_BT).tolist():
            more = camera_rollout(inputs["camera"][b, [t]], inputs["imu"][b, [t]], dt_BT1[b, t])[0]
            y[b, t] = h[b] = h[b] * np.exp(-dt_BT1[b, t]) + more
        return {"y": y}, {"h": h}


class Bed:
    """A batcher with sessions, and what its turns decode."""

    def __init__(self, sessions: int = 1, *, policy: Policy | None = None, **limits: int) -> None:
        self.model = Camera()
        clock = FakeClock()
        self.table = SessionTable(MANIFEST, clock=clock)
        self.slots = [self.table.create(f"s{k}") for k in range(sessions)]
        for slot in self.slots if policy else ():
            self.table.set_policy(slot, policy or Policy())
        self.batcher = Batcher(MANIFEST, self.table, Limits(**limits), clock)
        self.decoded: list[int] = []

    def send(
        self, slot: int, first: int, pictures: Sequence[bytes], flags: Sequence[int] = (), imu: Array | None = None
    ) -> None:
        with_data = [row for row in range(len(flags) or len(pictures)) if not (flags and flags[row] & RowFlag.SKIP)]
        imu = IMU[: len(with_data)] if imu is None else imu
        rows = len(flags) or len(pictures)
        columns, frames = [("imu", imu.tobytes())], {"camera": pictures}
        message = StepColumns(range(first, first + rows), flags=flags, columns=columns, frames=frames)
        self.batcher.queue.add([slot] * rows, message)

    def turn(self) -> TurnResults:
        taken = self.batcher.take()
        assert taken is not None
        needed = self.batcher.to_decode(taken)
        self.decoded.append(len(needed))
        plan = self.batcher.plan(taken.decoded(decoded(taken.rows, MANIFEST.encoded_inputs, needed)))
        return self.batcher.commit(plan, plan.execute(self.model))


def verdicts(results: TurnResults) -> list[Verdict]:
    return [Verdict(v) for v in results.rows.verdict.tolist()]


def expected(pictures: Sequence[bytes], imu: Array) -> Array:
    rows = len(pictures)
    return camera_rollout(seen(list(pictures), MANIFEST.inputs[0]), imu, np.full(rows, NOMINAL_S))


def test_rows_that_the_policy_drops_are_neither_decoded_nor_run() -> None:
    bed = Bed(2, policy=Policy(keep_last=1), turn_steps=1)
    bed.send(bed.slots[0], 1, PICTURES[:10])
    bed.send(bed.slots[1], 1, PICTURES[10:11])
    results = bed.turn()
    assert verdicts(results) == [Verdict.STALE] * 9 + [Verdict.APPLIED] * 2
    assert bed.decoded == [2]
    assert np.prod(bed.model.steps, axis=1).sum() == 2, "the engine ran two steps, not eleven"
    y = results.rows.outputs["y"][results.rows.out[9:]]
    np.testing.assert_allclose(y[0], expected(PICTURES[9:10], IMU[9:10])[0], atol=1e-6)


def test_a_bad_picture_is_its_rows_alone() -> None:
    bed = Bed()
    cut, whole = PICTURES[1][:-20], [PICTURES[0], PICTURES[2]]
    bed.send(bed.slots[0], 1, [PICTURES[0], cut, b"x" * 5000, PICTURES[2]])
    results = bed.turn()
    assert verdicts(results) == [Verdict.APPLIED, Verdict.INVALID, Verdict.INVALID, Verdict.APPLIED]
    assert "camera" in results.details[1].text
    assert "cannot be decoded" in results.details[1].text
    assert "a frame of 5000 bytes, at most 4096" in results.details[2].text
    y = results.rows.outputs["y"][results.rows.out[[0, 3]]]
    np.testing.assert_allclose(y, expected(whole, IMU[[0, 3]]), atol=1e-6)


def test_a_turn_decodes_no_more_than_it_may() -> None:
    bed = Bed(2, turn_bytes=3 * FRAME_BYTES)
    bed.send(bed.slots[0], 1, PICTURES[:5])
    bed.send(bed.slots[1], 1, PICTURES[:2])
    seqs = [bed.turn().rows.seq.tolist() for _ in range(3)]
    assert seqs == [[1, 2, 3], [4, 5, 1], [2]]
    assert bed.decoded == [3, 3, 1]
    np.testing.assert_allclose(bed.table.read(bed.slots[0])["h"], expected(PICTURES[:5], IMU[:5])[-1], atol=1e-6)


def test_rows_without_a_picture_and_rows_settled_before_need_none() -> None:
    bed = Bed()
    skip = int(RowFlag.SKIP)
    bed.send(bed.slots[0], 1, [PICTURES[0], PICTURES[2]], flags=[0, skip, 0], imu=IMU[[0, 2]])
    assert verdicts(bed.turn()) == [Verdict.APPLIED, Verdict.SKIPPED, Verdict.APPLIED]
    bed.send(bed.slots[0], 3, PICTURES[2:4], imu=IMU[2:4])
    results = bed.turn()
    assert verdicts(results) == [Verdict.DUPLICATE, Verdict.APPLIED]
    assert bed.decoded == [2, 1]
    y = results.rows.outputs["y"][results.rows.out]
    np.testing.assert_allclose(y, expected([PICTURES[0], *PICTURES[2:4]], IMU[[0, 2, 3]])[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ({}, "the frames of input 'camera' are missing"),
        ({"camera": PICTURES[:1]}, "1 frames for 2 rows"),
        ({"camera": PICTURES[:2], "rear": PICTURES[:2]}, "no input 'rear' that takes any"),
    ],
)
def test_pictures_that_do_not_fit_the_rows_are_named(frames: dict[str, list[bytes]], why: str) -> None:
    bed = Bed()
    bed.batcher.queue.add([0, 0], StepColumns([1, 2], columns=[("imu", IMU[:2].tobytes())], frames=frames))
    results = bed.turn()
    assert verdicts(results) == [Verdict.INVALID] * 2
    assert why in results.details[0].text
    assert bed.decoded == [0]


def test_data_where_a_picture_belongs_is_named() -> None:
    bed = Bed()
    columns = [("imu", IMU[:1].tobytes()), ("camera", b"\0" * FRAME_BYTES)]
    bed.batcher.queue.add([0], StepColumns([1], columns=columns))
    assert "input 'camera' takes frames, got data" in bed.turn().details[0].text


def test_the_client_checks_what_it_can() -> None:
    x = {"camera": PICTURES[:3], "imu": IMU[:3]}
    columns, rows = rows_of(x, MANIFEST.inputs)
    assert (rows, columns["camera"].tolist()) == (3, PICTURES[:3])
    assert row_of({"camera": bytearray(PICTURES[0]), "imu": IMU[0]}, MANIFEST.inputs)["camera"].tolist() == PICTURES[:1]
    for camera, why in (
        (PICTURES[0], "expected a list of encoded pictures"),
        (film(3), "expected the bytes of a jpeg picture"),
        ([b"x" * 5000] * 3, "5000 bytes, the model takes at most 4096"),
        (PICTURES[:2], "shape"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            rows_of({**x, "camera": camera}, MANIFEST.inputs)


def test_pictures_are_sent_again_out_of_the_ring() -> None:
    released = np.zeros(1, np.int64)
    ring = RetransmitBuffer(lambda: released)
    data, _ = rows_of({"camera": PICTURES[:6], "imu": IMU[:6]}, MANIFEST.inputs)
    first = {name: column[:2] for name, column in data.items()}
    rest = {name: column[2:] for name, column in data.items()}
    ring.append(RowBlock(np.zeros(2, np.int64), np.array([1, 2]), None, None, first))
    ring.append(RowBlock(np.zeros(4, np.int64), np.array([3, 4, 5, 6]), None, None, rest))
    ring.drop(np.zeros(1, np.int64), np.array([4]))
    blocks = ring.take(0, 2, 6, heard_seq=2)
    steps = steps_message(blocks)
    assert list(steps.flags) == [RowFlag.REPLAY, 0, RowFlag.SKIP, 0, 0]
    frames = next(list(column.frames) for column in steps.columns if column.name == "camera")
    assert frames == [PICTURES[1], PICTURES[2], *PICTURES[4:6]]
    assert blocks[0].nbytes > sum(map(len, frames)), "pictures count by their own size"


def test_a_bundle_whose_pictures_are_too_large_is_refused() -> None:
    check_pictures(MANIFEST, FRAME_BYTES)
    with pytest.raises(FailedPrecondition, match=f"{FRAME_BYTES} bytes of decoded images; max_decoded_bytes is 1000"):
        check_pictures(MANIFEST, 1000)


def test_a_lone_row_with_a_picture_as_plain_data_is_not_queued_as_a_plain_row() -> None:
    bed = Bed()
    columns = [("camera", bytes(FRAME_BYTES)), ("imu", IMU[:1].tobytes())]
    assert not bed.batcher.queue.add_row(bed.slots[0], 1, 10**9, columns)
    assert len(bed.batcher.queue) == 0
    bed.batcher.queue.add([bed.slots[0]], StepColumns([1], [10**9], columns=columns))
    results = bed.turn()
    assert verdicts(results) == [Verdict.INVALID]
    assert "input 'camera' takes frames, got data" in results.details[0].text
