"""Sessions of played recordings are named after their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from statestream.service.control.open_request import check_id
from statestream.service.playback.session_names import session_name


@pytest.mark.parametrize(
    ("source", "recording", "name"),
    [
        ("runs/walk.csv", "walk", "walk.csv"),
        ("runs/all.parquet", "left 3", "all.parquet left 3"),
        ("webcam:0", "", "webcam:0"),
        ("a\nb.csv", "c\td", "a_b.csv c_d"),
    ],
)
def test_a_name_is_the_files_with_a_tag(source: str, recording: str, name: str) -> None:
    found = session_name(source, recording)
    assert found.rpartition(" ")[0] == name
    assert found != session_name(source, recording)
    check_id(found)


def test_recordings_of_a_folder_have_their_own_names(tmp_path: Path) -> None:
    assert session_name(str(tmp_path), "walk").startswith("walk ")


def test_a_long_name_stays_within_the_limit() -> None:
    check_id(session_name("ж" * 400))
