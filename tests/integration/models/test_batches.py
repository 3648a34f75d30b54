"""An epoch is what its seed and number say, each window continues the last, and processes share every batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from statestream.models.config import AugmentOptions, TrainingOptions
from statestream.models.data.recordings import Recording
from statestream.models.spec import TimeSpec
from statestream.models.training.augment import augment, rotation
from statestream.models.training.batches import Batches, Epoch, segment_rows, whole, windows
from tests.integration.models.conftest import NOMINAL_S, made_up

TIME = TimeSpec.around(NOMINAL_S)
NAMES = ["f0", "f1", "f2", "f3", "f4"]


def with_classes(lengths: list[int]) -> list[Recording]:
    return [Recording(r.id, r.t_ns, r.features, np.full(len(r), k)) for k, r in enumerate(made_up(lengths))]


def epoch_of(number: int, *, rank: int = 0, world: int = 1, **options: object) -> Epoch:
    training = TrainingOptions.model_validate({"batch": 2, "window": 8, "passes": 1, **options})
    recordings = with_classes([20, 13, 30])
    return Batches(recordings, NAMES, TIME, training, at_end=False, rank=rank, world=world).epoch(number)


def test_windows_side_by_side_are_the_batch() -> None:
    batch = whole(with_classes([20, 13]), TIME, at_end=False)
    parts = list(windows(batch, 8))
    assert [part.first for part in parts] == [True, False, False]
    assert torch.equal(torch.cat([part.x_BTF for part in parts], dim=1), batch.x_BTF)
    assert torch.equal(torch.cat([part.valid_BT for part in parts], dim=1), batch.valid_BT)


def test_only_the_last_row_is_scored_at_the_end() -> None:
    batch = whole(with_classes([20, 13]), TIME, at_end=True)
    assert batch.scored_BT.nonzero().tolist() == [[0, 19], [1, 12]]


def test_an_epoch_is_its_seed_and_number() -> None:
    augmented = {"segment": 10, "augment": {"keep_rows": [0.5, 0.9], "stretch": 0.2}}
    one, same, other = (list(epoch_of(number, **augmented)) for number in (3, 3, 4))
    assert all(torch.equal(a.x_BTF, b.x_BTF) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a.x_BTF, b.x_BTF) for a, b in zip(one, other, strict=True))


def test_padding_once_gives_the_same_windows() -> None:
    (padded,) = epoch_of(5).passes
    assert padded.padded is not None
    anew = replace(padded, padded=None)
    for one, other in zip(padded, anew, strict=True):
        assert torch.equal(one.x_BTF, other.x_BTF)
        assert torch.equal(one.dt_BT1, other.dt_BT1)
        assert torch.equal(one.valid_BT, other.valid_BT)
        assert torch.equal(one.scored_BT, other.scored_BT)
        assert torch.equal(one.y, other.y)


def test_recordings_of_like_length_share_a_batch_and_all_are_there_once() -> None:
    recordings = with_classes([int(n) for n in np.random.default_rng(0).integers(2, 60, 99)])
    training = TrainingOptions.model_validate({"batch": 6, "window": 64, "passes": 1})
    batches = Batches(recordings, NAMES, TIME, training, at_end=False)
    windows_of_96, seen = list(batches.epoch(0))[:16], []
    for window in batches.epoch(0):
        seen += window.y[:, 0].tolist()
    assert sorted(seen) == list(range(99))
    padding = sum(int((~window.valid_BT).sum()) for window in windows_of_96)
    assert padding < 0.2 * sum(window.valid_BT.numel() for window in windows_of_96)
    assert not torch.equal(next(iter(batches.epoch(0))).y, next(iter(batches.epoch(1))).y)


def test_an_epoch_knows_how_many_windows_it_has() -> None:
    assert len(list(epoch_of(0))) == len(epoch_of(0))


def pieces_of(rows: list[int], **options: object) -> tuple[Batches, Epoch]:
    recordings = with_classes(rows)
    training = TrainingOptions.model_validate({"window": 8, **options})
    batches = Batches(recordings, NAMES, TIME, training, at_end=False)
    return batches, batches.epoch(0)


@pytest.mark.parametrize("rows", [[50], [5000], [20] * 17, [20] * 200, [10] * 2000, [300, 7, 20]])
@pytest.mark.parametrize("segment", [None, 0, 16])
def test_an_epoch_has_enough_steps_whatever_the_recordings(rows: list[int], segment: int | None) -> None:
    _, epoch = pieces_of(rows, segment=segment)
    assert len(epoch) >= 20
    assert len(epoch.passes) == 1 or len(epoch) < 20 + len(epoch.passes[0])
    drawn = sum(int(window.valid_BT.sum()) for window in epoch.passes[0])
    assert drawn >= sum(rows), "a pass could see every row"


def test_segments_of_a_pass_cover_each_recording_by_its_length() -> None:
    batches, epoch = pieces_of([320, 20, 33], batch=1)
    assert batches.segment == 32, "four windows"
    seen = [int(window.y[0, 0]) for window in epoch.passes[0] if window.first]
    assert [seen.count(k) for k in range(3)] == [10, 1, 2]


def test_passes_that_are_given_are_kept() -> None:
    _, epoch = pieces_of([320, 20, 33], batch=1, passes=2, segment=16)
    assert [len(each) for each in epoch.passes] == [6, 6], "a segment of two windows of each, twice"


def test_only_the_end_is_cut_from_where_only_the_end_is_scored() -> None:
    training = TrainingOptions.model_validate({"window": 8})
    assert segment_rows(with_classes([500]), training, at_end=True) == 0


def test_processes_share_every_batch_and_count_alike() -> None:
    shares = [list(epoch_of(1, rank=rank, world=2)) for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == len(epoch_of(1, world=2))
    firsts = [(one, other) for one, other in zip(*shares, strict=True) if one.first]
    # Three recordings, two a batch: the one left over has company, so that nobody waits for nothing.
    assert len(firsts) == 2
    for one, other in firsts:
        assert one.x_BTF.shape == other.x_BTF.shape
        assert len(one.valid_BT) == 1
        assert not torch.equal(one.x_BTF, other.x_BTF)


def test_dropped_rows_leave_their_time_behind() -> None:
    (recording,) = with_classes([400])
    fewer = augment(recording, NAMES, AugmentOptions(keep_rows=(0.5, 0.5)), np.random.default_rng(0))
    assert 150 < len(fewer) < 250
    assert set(fewer.t_ns) <= set(recording.t_ns)
    assert fewer.t_ns[-1] == recording.t_ns[-1]


def test_a_rotation_keeps_lengths_and_turns_all_vectors_alike() -> None:
    random = np.random.default_rng(0)
    matrix = rotation(random, np.pi)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    (recording,) = with_classes([50])
    options = AugmentOptions(rotate_deg=45, rotate=(("f0", "f1", "f2"),))
    turned = augment(recording, NAMES, options, random)
    before, after = recording.features, turned.features
    np.testing.assert_allclose(np.linalg.norm(after[:, :3], axis=1), np.linalg.norm(before[:, :3], axis=1), rtol=1e-5)
    np.testing.assert_array_equal(after[:, 3:], before[:, 3:])
    assert np.abs(after[:, :3] - before[:, :3]).max() > 0.01


def test_a_mirrored_recording_changes_some_signs_or_none() -> None:
    (recording,) = with_classes([50])
    seen = set()
    for seed in range(8):
        x = augment(recording, NAMES, AugmentOptions(mirror=("f1",)), np.random.default_rng(seed)).features
        np.testing.assert_array_equal(np.delete(x, 1, axis=1), np.delete(recording.features, 1, axis=1))
        seen.add(float(np.sign(x[0, 1] * recording.features[0, 1])))
    assert seen == {-1.0, 1.0}


def test_a_shifted_recording_is_off_by_one_amount_throughout() -> None:
    (recording,) = with_classes([50])
    changed = augment(recording, NAMES, AugmentOptions(shift={"f2": 3.0}), np.random.default_rng(0))
    off = changed.features - recording.features
    assert 0 < abs(off[0, 2]) <= 3
    np.testing.assert_allclose(off[:, 2], off[0, 2], atol=1e-5)
    assert not np.delete(off, 2, axis=1).any()
