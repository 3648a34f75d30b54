"""Export: makes a bundle from a trained network; `export` is imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statestream.models.export.exporter import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    # Commands that use `onnx_scan` run without torch, which the exporter needs.
    if name in __all__:
        from statestream.models.export import exporter

        return getattr(exporter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
