"""The import path of version 0.1; use `statestream.service.protocol.verdict`."""

from statestream.service.protocol.verdict import ResultFlag, RowFlag, Verdict

__all__ = ["ResultFlag", "RowFlag", "Verdict"]
