"""The import path of version 0.1; use `statestream.service.client`."""

from statestream.service.client.credentials import Access

__all__ = ["Access"]
