#!/bin/sh
# Pillow keeps 8 of the 16 bits of a colour picture, and scales the values of a PGM, and says nothing of either.
#
# A PNG or TIFF of 16 bits a colour opens as mode RGB of 8 bits: 40,001 becomes 156, its upper byte. Its mode does not tell
# it from a picture of 8 bits; byte 24 of a PNG and tag 258 of a TIFF do. A PGM whose largest value is 4095 opens as mode I,
# with its values multiplied by 65535 / 4095: a depth of 1000 mm reads as 16004; one whose largest value is 100 is stretched
# to 255. Grey PNGs of 16 bits keep their values.
#
# Seen with Python 3.11, Pillow 13.0.0, av 18.1.0 (which writes the picture of 16 bits a colour), numpy 2.4.6. Fails if a
# value or a mode is another one.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install pillow==13.0.0 av==18.1.0 numpy==2.4.6

cat >"$folder/depths.py" <<'END'
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from PIL import Image


def of_16_bits(codec, kind):
    """A picture of 16 bits a colour, each 40,001."""
    writer = av.CodecContext.create(codec, "w")
    writer.width, writer.height, writer.pix_fmt, writer.time_base = 4, 4, kind, Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.full((4, 4, 3), 40_001, np.uint16), format=kind)
    return b"".join(bytes(packet) for packet in [*writer.encode(frame), *writer.encode(None)])


def grey():
    file = BytesIO()
    Image.fromarray(np.full((4, 4), 40_001, np.uint16)).save(file, "PNG")
    return file.getvalue()


def opened(data):
    """Mode of a picture, and its first value."""
    picture = Image.open(BytesIO(data))
    return picture.mode, int(np.asarray(picture).flat[0])


found = {
    "PNG of 16 bits a colour": opened(of_16_bits("png", "rgb48be")),
    "TIFF of 16 bits a colour": opened(of_16_bits("tiff", "rgb48le")),
    "grey PNG of 16 bits": opened(grey()),
    "PGM up to 4095": opened(b"P5 1 1 4095\n" + (1000).to_bytes(2, "big")),
    "PGM up to 100": opened(b"P5 1 1 100\n" + bytes([50])),
}
print(found)
assert list(found.values()) == [("RGB", 156), ("RGB", 156), ("I;16", 40_001), ("I", 16_004), ("L", 128)], found
END
"$folder/venv/bin/python" "$folder/depths.py"
echo "as described"
