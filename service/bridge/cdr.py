"""Encapsulation of CDR: which encoding a payload of DDS or Zenoh says it has."""

from __future__ import annotations

from statestream.models.data.tables import DataError

CDR_HEAD = b"\0\1\0\0"
"""Header of plain XCDR1, little-endian."""
_HEAD = len(CDR_HEAD)
"""Bytes of the header: two of the encoding, two of options."""
_PLAIN = (b"\0\0", b"\0\1")
_OTHERS = {
    2: "PL_CDR_BE (XCDR1, parameter list)",
    3: "PL_CDR_LE (XCDR1, parameter list)",
    6: "CDR2_BE (XCDR2)",
    7: "CDR2_LE (XCDR2)",
    8: "D_CDR2_BE (XCDR2, delimited)",
    9: "D_CDR2_LE (XCDR2, delimited)",
    10: "PL_CDR2_BE (XCDR2, parameter list)",
    11: "PL_CDR2_LE (XCDR2, parameter list)",
}


def check_encapsulation(payload: bytes | memoryview) -> None:
    """Raise DataError unless a payload is in plain XCDR1, which ROS 2 sends; the text names the encoding.

    XCDR2 aligns numbers of eight bytes to four, so reading it as XCDR1 would give wrong values without an error.
    """
    head = bytes(payload[:2])
    if head in _PLAIN and len(payload) >= _HEAD:
        return
    if len(payload) < _HEAD:
        raise DataError(f"it has {len(payload)} bytes, fewer than the {_HEAD} of a header of CDR")
    number = int.from_bytes(head, "big")
    raise DataError(
        f"its header says {_OTHERS.get(number, 'an unknown encoding')} (0x{number:04x}); read is plain CDR of XCDR1: "
        "have its publisher offer the data representation XCDR1"
    )
