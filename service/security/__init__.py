"""The import path of version 0.1; use `statestream.service.client`."""
