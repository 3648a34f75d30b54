"""Data sets of LeRobot (version 3), laid out as its own writer does: files of several episodes, concatenated videos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow
from pyarrow import parquet

from statestream.models.spec import Array

FPS = 10
CAMERAS = ("observation.images.front", "observation.images.wrist")
JOINTS = ("shoulder_pan.pos", "elbow_flex.pos", "gripper.pos")
STATE = tuple(f"observation.state[{k}]" for k in range(3))
ACTION = tuple(f"action[{k}]" for k in range(3))
TASKS = ("Pick the cube.", "Place the cube.")
HEIGHT, WIDTH = 64, 96


def lengths(episodes: int) -> list[int]:
    """Rows of each episode."""
    return [7 + k % 3 for k in range(episodes)]


def grey(camera: int, index: int) -> int:
    """Brightness of a frame, by its number in the data set."""
    return 20 + 37 * (camera + 2 * index) % 210


def states(rows: int) -> tuple[Array, Array]:
    """States `[T, 3]`, and the actions that follow from them."""
    x = np.random.default_rng(0).normal(size=(rows, len(JOINTS))).astype(np.float32)
    return x, (0.5 * x[:, ::-1] - 0.2).astype(np.float32)


def write_lerobot(folder: Path, episodes: int = 5, *, per_file: int = 3, videos: bool = True) -> Path:
    """Write a data set; files hold `per_file` episodes, and those of videos one more."""
    found = lengths(episodes)
    starts = np.cumsum([0, *found])
    x, action = states(sum(found))
    cameras = CAMERAS if videos else ()
    rows = [_episode(k, start, x, action, n) for k, (start, n) in enumerate(zip(starts, found, strict=False))]
    _write_rows(folder, rows, per_file)
    places = {key: list(_write_videos(folder, k, found, per_file + 1)) for k, key in enumerate(cameras)}
    _write_meta(folder, rows, starts.tolist(), per_file, places)
    return folder


def write_without_videos(
    folder: Path, episodes: int = 2, *, end_s: float = 9.0, length: int | None = None, **info: object
) -> Path:
    """Write a data set that says that it has a video, `cam`, of `end_s` seconds, with other facts in its metadata."""
    write_lerobot(folder, episodes, videos=False)
    path = folder / "meta/info.json"
    content = json.loads(path.read_text())
    content["features"]["cam"] = {"dtype": "video", "shape": [HEIGHT, WIDTH, 3]}
    content["video_path"] = "videos/{video_key}/{chunk_index}-{file_index}.mp4"
    content |= {"codebase_version": info.pop("version", "v3.0"), **info}
    path.write_text(json.dumps(content))
    where = {"chunk_index": 0, "file_index": 0, "from_timestamp": 0.0, "to_timestamp": end_s}
    for path in folder.glob("meta/episodes/*/*.parquet"):
        rows = parquet.read_table(path).to_pylist()
        for row in rows:
            row |= {f"videos/cam/{key}": value for key, value in where.items()}
            row["length"] = length or row["length"]
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


def _episode(number: int, start: int, x: Array, action: Array, length: int) -> dict[str, Array]:
    frame = np.arange(length)
    return {
        "action": action[start : start + length],
        "observation.state": x[start : start + length],
        "timestamp": (frame / FPS).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(length, number),
        "index": start + frame,
        "task_index": np.full(length, number % 2),
    }


def _write_rows(folder: Path, episodes: Sequence[dict[str, Array]], per_file: int) -> None:
    for number in range(0, len(episodes), per_file):
        group = episodes[number : number + per_file]
        joined = {name: np.concatenate([each[name] for each in group]) for name in group[0]}
        columns = {
            name: pyarrow.array(list(cells), pyarrow.list_(pyarrow.float32(), len(JOINTS))) if cells.ndim > 1 else cells
            for name, cells in joined.items()
        }
        path = folder / f"data/chunk-000/file-{number // per_file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(columns), path, row_group_size=5)


def _write_videos(folder: Path, camera: int, found: list[int], per_file: int) -> Iterator[tuple[int, float, float]]:
    """Encode each episode alone, then copy the packets of several into a file; yields file, start and end of each."""
    indices = count()
    for number in range(0, len(found), per_file):
        path = folder / f"videos/{CAMERAS[camera]}/chunk-000/file-{number // per_file:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = []
        start = 0.0
        for k, length in enumerate(found[number : number + per_file]):
            parts.append(path.with_name(f"part-{k}.mp4"))
            _encode(parts[-1], [grey(camera, next(indices)) for _ in range(length)])
            yield number // per_file, start, start + length / FPS
            start += length / FPS
        _concatenate(parts, path)


def _encode(path: Path, greys: Sequence[int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=FPS, options={"g": "2", "crf": "30", "preset": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for value in greys:
            picture = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _concatenate(parts: Sequence[Path], path: Path) -> None:
    listed = path.with_suffix(".ffconcat")
    listed.write_text("ffconcat version 1.0\n" + "".join(f"file '{part.resolve()}'\n" for part in parts))
    with (
        av.open(str(listed), format="concat", options={"safe": "0"}) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = source.streams.video[0].time_base or Fraction(1, FPS)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    for each in (listed, *parts):
        each.unlink()


def _write_meta(
    folder: Path, rows: Sequence[dict[str, Array]], starts: list[int], per_file: int, places: dict[str, list[Any]]
) -> None:
    episodes = [_facts(k, each, starts, per_file, places) for k, each in enumerate(rows)]
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    half = len(episodes) // 2 + 1
    for number, group in enumerate((episodes[:half], episodes[half:])):
        if group:
            path = folder / f"meta/episodes/chunk-000/file-{number:03d}.parquet"
            parquet.write_table(pyarrow.Table.from_pylist(group), path)
    tasks = {"task_index": list(range(len(TASKS))), "__index_level_0__": list(TASKS)}  # As pandas leaves its index.
    parquet.write_table(pyarrow.table(tasks), folder / "meta/tasks.parquet")
    vector: dict[str, Any] = {"dtype": "float32", "shape": [len(JOINTS)], "names": list(JOINTS)}
    film = {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]}
    counts = ("frame_index", "episode_index", "index", "task_index")
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101_follower",
        "total_episodes": len(rows),
        "total_frames": starts[-1],
        "total_tasks": len(TASKS),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if places else None,
        "features": {
            "action": vector,
            "observation.state": vector,
            **{key: {**film, "info": {"video.fps": FPS, "video.codec": "av1"}} for key in places},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in counts},
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info, indent=4))


def _facts(
    number: int, rows: dict[str, Array], starts: list[int], per_file: int, places: dict[str, list[Any]]
) -> dict[str, Any]:
    """An episode's row of `meta/episodes`."""
    found: dict[str, Any] = {
        "episode_index": number,
        "tasks": [TASKS[number % 2]],
        "length": len(rows["index"]),
        "data/chunk_index": 0,
        "data/file_index": number // per_file,
        "dataset_from_index": starts[number],
        "dataset_to_index": starts[number + 1],
    }
    for key, each in places.items():
        file, start_s, end_s = each[number]
        found |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": file}
        found |= {f"videos/{key}/from_timestamp": start_s, f"videos/{key}/to_timestamp": end_s}
    for name, cells in rows.items():
        each = cells.reshape(len(cells), -1).astype(np.float64)
        found |= {f"stats/{name}/{how}": getattr(each, how)(axis=0).tolist() for how in ("min", "max", "mean", "std")}
        found[f"stats/{name}/count"] = [len(cells)]
    return found
