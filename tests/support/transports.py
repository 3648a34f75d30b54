"""The transports that tests run over."""

from __future__ import annotations

import pytest

from statestream.service.transports.choice import lacking

native_only = pytest.mark.skipif(bool(lacking()), reason=lacking() or "it was built")
TRANSPORTS = ("grpc", pytest.param("native", marks=native_only))
"""Parameters of a fixture."""
