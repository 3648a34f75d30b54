"""`statestream.v1`: messages and services, generated from the `.proto` files beside this one."""

PROTOCOL_VERSION = 1
"""What Open and Opened say: client and server must speak the same."""
