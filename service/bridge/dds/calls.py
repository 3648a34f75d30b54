"""Calls of Cyclone DDS that differ in version 0.10 of its package for Python, which Debian's library needs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from cyclonedds._clayer import ddspy_take
from cyclonedds.core import DDSException, InstanceState, SampleState, ViewState
from cyclonedds.internal import DDS
from cyclonedds.sub import DataReader

ANY = SampleState.Any | ViewState.Any | InstanceState.Any
_MASK = () if version("cyclonedds").startswith("0.") else (ANY,)
_LIBRARY = ctypes.CDLL(DDS._dll_handle._name)
"""Functions of our own, as those of the package may have other types of arguments."""


class _SampleLost(ctypes.Structure):
    _fields_ = [("total_count", ctypes.c_uint32), ("total_count_change", ctypes.c_int32)]


class _IncompatibleQos(ctypes.Structure):
    _fields_ = [*_SampleLost._fields_, ("last_policy_id", ctypes.c_uint32)]


def take(reader: DataReader[Any], most: int) -> Sequence[tuple[bytes, Any]]:
    """Take messages as they are serialized, each with what is known of it."""
    samples: int | Sequence[tuple[bytes, Any]] = ddspy_take(reader._ref, *_MASK, most)
    if isinstance(samples, int):
        raise DDSException(samples)
    return samples


def matched(reader: DataReader[Any]) -> int:
    """Number of writers that match a reader."""
    return _checked(_LIBRARY.dds_get_matched_publications(reader._ref, None, 0))


def lost(reader: DataReader[Any]) -> int:
    """Number of messages that a reader knows to be lost on their way."""
    status = _SampleLost()
    _checked(_LIBRARY.dds_get_sample_lost_status(reader._ref, ctypes.byref(status)))
    return int(status.total_count)


def unmatched_policy(reader: DataReader[Any]) -> int:
    """Number of the policy by which a writer did not match since the last call; 0: none."""
    status = _IncompatibleQos()
    _checked(_LIBRARY.dds_get_requested_incompatible_qos_status(reader._ref, ctypes.byref(status)))
    return int(status.last_policy_id) if status.total_count_change else 0


def _checked(code: int) -> int:
    if code < 0:
        raise DDSException(code)
    return code
