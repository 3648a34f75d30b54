"""Speeds up exports in tests."""

from __future__ import annotations

import logging
from functools import cache

from torch.onnx._internal.exporter._registration import ONNXRegistry


def speed_up_exports() -> None:
    """Keep torch's ONNX translations in memory, and its tracing off.

    `torch.onnx.export` reads the source of 500 translations at every call, two fifths of a small export; they do not
    depend on the network. And pytest (9.2) attaches its handler to loggers that do not propagate, which makes torch
    (2.13) build its trace log.
    """
    built = ONNXRegistry.from_torchlib
    if not hasattr(built, "cache_info"):
        ONNXRegistry.from_torchlib = staticmethod(cache(built))  # type: ignore[method-assign, assignment]
    logging.getLogger("torch.__trace").propagate = True
