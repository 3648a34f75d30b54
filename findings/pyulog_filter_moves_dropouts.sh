#!/bin/sh
# pyulog gives a drop-out another time when it is asked for some topics of a log only.
#
# A drop-out stands in the log without a time of its own; the library gives it that of the newest message before it. With
# `message_name_filter_list` messages of other topics are passed over before their time is seen, so that the drop-out moves
# back to the newest message of the topics that were asked for, or to the start of the log. Read whole, its time is right.
#
# Seen with Python 3.11, pyulog 1.3.0, numpy 2.4.6. Fails if a time is another one.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install pyulog==1.3.0 numpy==2.4.6

cat >"$folder/dropouts.py" <<'END'
import struct
import sys
from pathlib import Path

from pyulog import ULog

path = Path(sys.argv[1]) / "flight.ulg"


def record(kind, content):
    return struct.pack("<HB", len(content), ord(kind)) + content


def message(number, t_us):
    return record("D", struct.pack("<HQf", number, t_us, 0.5))


names = ("slow", "fast")
records = [record("B", bytes(40))]
records += [record("F", f"{name}:uint64_t timestamp;float x;".encode()) for name in names]
records += [record("A", struct.pack("<BH", 0, number) + name.encode()) for number, name in enumerate(names)]
records += [message(0, 1_000), message(1, 2_000), message(1, 3_000), record("O", struct.pack("<H", 70)), message(1, 73_000)]
path.write_bytes(b"ULog\x01\x12\x35\x01" + struct.pack("<Q", 1_000) + b"".join(records))

found = {}
for wanted in (None, ["fast"], ["slow"], ["other"]):
    (dropout,) = ULog(str(path), message_name_filter_list=wanted).dropouts
    found[str(wanted)] = dropout.timestamp
print(found)
assert list(found.values()) == [3_000, 3_000, 1_000, 1_000], found
END
"$folder/venv/bin/python" "$folder/dropouts.py" "$folder"
echo "as described"
