"""JPEGs are decoded to the bit alike everywhere, and what cannot be used says why before it costs anything."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import simplejpeg

from statestream.models import jpeg
from statestream.models.jpeg import FrameError, decode, encode
from statestream.models.spec import Array, InputSpec
from tests.support.cameras import HEIGHT, SHAPE, WIDTH, film

RGB = InputSpec(name="camera", shape=SHAPE, dtype="uint8", encoding="jpeg", colours="rgb")


def look(data: bytes, spec: InputSpec = RGB) -> Array:
    into = np.zeros(spec.shape, np.uint8)
    decode(data, spec, into)
    return into


def test_colours_come_in_the_order_declared() -> None:
    red = np.zeros(SHAPE, np.uint8)
    red[..., 0] = 200
    data = encode(red)
    assert abs(int(look(data)[0, 0, 0]) - 200) < 4
    assert abs(int(look(data, RGB.model_copy(update={"colours": "bgr"}))[0, 0, 2]) - 200) < 4
    grey = InputSpec(name="camera", shape=(HEIGHT, WIDTH, 1), dtype="uint8", encoding="jpeg", colours="grey")
    assert look(data, grey).shape == (HEIGHT, WIDTH, 1)
    assert abs(int(look(encode(np.full((HEIGHT, WIDTH, 1), 90, np.uint8), "grey"))[3, 3, 1]) - 90) < 4


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes that are no JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "98 bytes that are no JPEG"),
        (encode(film(1)[0])[:-20], "cannot be decoded: Premature end"),
        (encode(np.zeros((WIDTH, HEIGHT, 3), np.uint8)), f"{HEIGHT}x{WIDTH} pixels, expected {WIDTH}x{HEIGHT}"),
        (encode(film(1)[0]) + b"\xff\xda" * 64, "65 scans, at most 64"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        look(data)


def test_a_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve megapixels in a few kilobytes would be 36 MB."""
    bomb = encode(np.zeros((3000, 4000, 3), np.uint8), quality=5)
    opened: list[object] = []
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *args, **more: opened.append(args))
    with pytest.raises(FrameError, match="4000x3000 pixels, expected 32x24"):
        look(bomb)
    assert not opened


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(FrameError, match=r"pip install 'statestream\[video\]'"):
        jpeg.simplejpeg()
