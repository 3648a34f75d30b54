#!/bin/sh
# mcap-ros2-support 0.6.0 reads a message in XCDR2 as if it were in XCDR1: wrong values, no error.
#
# The header of a serialized message says how it is encoded. In XCDR2 (0x0007) numbers of eight bytes are aligned to four, in
# XCDR1 (0x0001), which ROS 2 writes, to eight. DDS writes XCDR2 for types with optional members, or if its user says so. The
# library passes over the header. rosbags 0.11.9 refuses the message: "Invalid or unsupported CDR encapsulation".
#
# Seen with Python 3.11, mcap-ros2-support 0.6.0, rosbags 0.11.9, cyclonedds 11.0.1, which writes the message. Fails if the
# library reads 2.0, or raises an error.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
    mcap-ros2-support==0.6.0 rosbags==0.11.9 cyclonedds==11.0.1

cat >"$folder/xcdr2.py" <<'END_OF_PYTHON'
from dataclasses import dataclass

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64, sequence, uint8, uint32
from mcap_ros2._dynamic import generate_dynamic
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

DEFINITION = "uint32 n\nfloat64 x\nuint8[] data\n"


@dataclass
class Sample(IdlStruct):
    n: uint32
    x: float64
    data: sequence[uint8]


sample = Sample(1, 2.0, [0] * 8)
read = generate_dynamic("a/msg/Sample", DEFINITION)["a/msg/Sample"]
store = get_typestore(Stores.EMPTY)
store.register(get_types_from_msg(DEFINITION, "a/msg/Sample"))
found = {}
for version_2 in (False, True):
    message = sample.serialize(use_version_2=version_2)
    found[message[:2].hex()] = read(message).x, len(read(message).data)
    try:
        theirs = store.deserialize_cdr(message, "a/msg/Sample").x
    except SerdeError as error:
        theirs = str(error)
    print(message.hex(), "mcap-ros2-support", found[message[:2].hex()], "rosbags", theirs)
assert found["0001"] == (2.0, 8), found
assert found["0007"][0] != 2.0, found
END_OF_PYTHON
"$folder/venv/bin/python" "$folder/xcdr2.py"
echo "as described"
