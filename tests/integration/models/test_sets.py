"""The public data sets as their papers cut them: counts, splits, times. Skipped where a set is not on this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from statestream.models.config import SplitOptions, parse_config
from statestream.models.data.recordings import Dataset
from statestream.models.data.registry import REGISTRY, entry_of, loader
from statestream.models.data.set_files import locate
from statestream.models.data.tables import DataError
from statestream.models.training.dataset import channel_statistics, load_dataset
from statestream.models.training.splits import split_dataset

COUNTS = {
    # train, validation, test; rows of a piece
    "walker2d": (9684, 1272, 1937, 64),
    "gesture_phase/pieces": (455, 60, 90, 32),
    "occupancy": (7315, 812, 1549, 16),
    "metro_traffic": (9033, 1204, 1806, 32),
    "ozone": (471, 62, 93, 32),
    "seq_mnist": (54_000, 6_000, 10_000, 28),
}


def load(name: str) -> Dataset:
    entry = entry_of(name.partition("/")[0])
    missing = [file.name for file in entry.files if locate(entry.name, file) is None]
    if missing:
        pytest.skip(f"{entry.name}: {', '.join(missing)} not on this machine")
    return loader(name)()


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_paper(name: str) -> None:
    dataset = load(name)
    parts = Counter(dataset.parts)
    assert (parts["train"], parts["validation"], parts["test"], len(dataset.recordings[0])) == COUNTS[name]
    split = split_dataset(dataset, SplitOptions(by="standard"))
    assert tuple(map(len, (split.train, split.validation, split.test))) == COUNTS[name][:3]


@pytest.mark.parametrize(
    "name",
    [
        n
        for e in REGISTRY.values()
        if e.name not in ("xor", "watch")
        for n in (e.name, *(f"{e.name}/{v}" for v in e.variants if v != "frames"))
    ],
)
def test_every_set_is_finite_in_order_and_named(name: str) -> None:
    dataset = load(name)
    assert len({r.id for r in dataset.recordings}) == len(dataset.recordings)
    assert not dataset.parts or len(dataset.parts) == len(dataset.recordings)
    for r in dataset.recordings:
        assert r.features.shape == (len(r), len(dataset.features))
        assert r.features.dtype == np.float32
        assert r.t_ns.dtype == np.int64
        if "events" in name:
            assert not np.isinf(r.features).any()
            assert np.isfinite(r.features).any(axis=1).all()
        else:
            assert np.isfinite(r.features).all()
        assert (np.diff(r.t_ns) >= 0).all()
        target = np.asarray(r.target)
        assert target.shape in ((len(r),), (len(r), len(dataset.labels)))
        assert np.isfinite(target).all()
        if target.ndim == 1:
            assert set(np.unique(target)) <= set(range(len(dataset.labels)))


def test_frames_of_a_tub_are_its_pictures_cut_as_its_labels_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    films, pixels = load("donkeycar_test_tub/frames"), load("donkeycar_test_tub")
    cut = [(part, len(r)) for part, r in zip(films.parts, films.recordings, strict=True)]
    assert cut == [*[("train", 50)] * 14, ("validation", 100), ("test", 200)]
    assert {(r.features.dtype, r.features.shape[1:]) for r in films.recordings} == {(np.dtype(np.uint8), (120, 160, 3))}
    for part in ("train", "validation", "test"):
        angles = [
            np.concatenate([np.asarray(r.target) for p, r in zip(d.parts, d.recordings, strict=True) if p == part])
            for d in (films, pixels)
        ]
        np.testing.assert_array_equal(*(angle[: len(angles[1])] for angle in angles))


def test_walker2d_targets_are_one_step_of_the_simulator_later() -> None:
    dataset = load("walker2d")
    gaps = np.concatenate([np.diff(r.t_ns) for r in dataset.recordings])
    assert set(gaps % 8_000_000) == {0}
    assert np.mean(gaps == 8_000_000) == pytest.approx(0.9, abs=0.01)
    for r in dataset.recordings[::500]:
        close = np.flatnonzero(np.diff(r.t_ns) == 8_000_000)
        np.testing.assert_array_equal(np.asarray(r.target)[close], r.features[close + 1])
    rollouts = {part: {r.group for r, p in zip(dataset.recordings, dataset.parts, strict=True) if p == part} for part in
                ("train", "validation", "test")}  # fmt: skip
    assert [len(rollouts[part]) for part in ("train", "validation", "test")] == [300, 40, 60]
    assert not rollouts["train"] & rollouts["test"]


def test_no_run_of_borealtc_is_in_two_folds() -> None:
    dataset = load("borealtc")
    folds: dict[str, set[str]] = {}
    for r in dataset.recordings:
        folds.setdefault(r.id.partition("/")[0], set()).add(r.group)
    assert all(len(groups) == 1 for groups in folds.values())
    for fold in range(5):
        split_dataset(dataset, SplitOptions(by="group", folds=5, fold=fold, validation=0), classes=True)


def test_every_variant_of_borealtc_is_of_the_same_pieces() -> None:
    imu, others = load("borealtc"), [load(f"borealtc/{name}") for name in ("events", "at_imu_rate", "at_wheel_rate")]
    for dataset in others:
        assert [(r.id, r.group) for r in dataset.recordings] == [(r.id, r.group) for r in imu.recordings]
    events = others[0].recordings[5]
    rows = np.isfinite(events.features[:, 0])
    np.testing.assert_array_equal(events.features[rows, :6], imu.recordings[5].features)
    assert 30 <= np.isfinite(events.features[:, 6]).sum() <= 35


def test_an_event_of_px4_is_to_say_the_next_of_the_gyroscope() -> None:
    rows, events, even = (load(f"px4_flight_log{variant}") for variant in ("", "/events", "/even_events"))
    gyro_ns = np.concatenate([r.t_ns for r in rows.recordings])
    gyro = np.concatenate([r.features[:, :3] for r in rows.recordings])
    for r in events.recordings:
        np.testing.assert_array_equal(r.target, gyro[np.searchsorted(gyro_ns, r.t_ns, side="right")])
        attitude, controls = np.isfinite(r.features[:, 0]), np.isfinite(r.features[:, 4])
        assert (attitude | controls).all()
        assert attitude.sum() > controls.sum() > 5
    assert all(len(set(np.diff(r.t_ns))) == 1 for r in even.recordings)
    np.testing.assert_array_equal(even.recordings[7].features, events.recordings[7].features)
    assert {r.group for r in even.recordings} == {f"stretch{k}" for k in range(5)}


def test_xor_tells_changes_and_asks_for_parity() -> None:
    dataset = load("xor")
    assert Counter(dataset.parts) == {"train": 100_000, "validation": 10_000, "test": 10_000}
    for r in dataset.recordings[::9999]:
        seconds, bits = r.t_ns // 1_000_000_000, r.features[:, 0].astype(int)
        stream = np.repeat(bits, np.diff(seconds, append=seconds[-1] + 1))
        assert 2 <= len(stream) <= 32
        assert (np.asarray(r.target) == stream.sum() % 2).all()
    again = loader("xor")()
    np.testing.assert_array_equal(again.recordings[-1].features, dataset.recordings[-1].features)


def test_features_of_a_known_set_can_be_chosen() -> None:
    load("occupancy")
    values = {
        "name": "x",
        "data": {"dataset": "occupancy", "features": ["CO2", "Temperature"]},
        "cell": {"kind": "gru"},
    }
    chosen, whole = load_dataset(parse_config(values, "test")), load("occupancy")
    assert chosen.features == ("CO2", "Temperature")
    assert chosen.units == ("ppm", "°C")
    np.testing.assert_array_equal(chosen.recordings[3].features, whole.recordings[3].features[:, [3, 0]])
    values["data"] = {"dataset": "occupancy", "features": ["Lihgt"]}
    with pytest.raises(DataError, match=r"data\.features: no feature 'Lihgt'; there are Temperature, .*Light"):
        load_dataset(parse_config(values, "test"))


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(DataError, match=r"'walker' is unknown; there are walker2d, gesture_phase"):
        loader("walker")
    with pytest.raises(DataError, match=r"'gesture_phase/parts' is no variant of gesture_phase; there are .*/pieces"):
        loader("gesture_phase/parts")


def test_a_common_scale_is_one_for_all_columns() -> None:
    x = np.random.default_rng(0).normal([1, 5], [1, 3], (500, 2))
    mean, std = channel_statistics([x], common=True)
    assert mean == pytest.approx([x.mean()] * 2)
    assert std == pytest.approx([x.std()] * 2)
