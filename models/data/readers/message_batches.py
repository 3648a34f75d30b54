"""Decodes the messages of a topic in batches: by their layout, or one by one by the library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from statestream.models.data.readers.message_layout import MessageLayout
from statestream.models.data.readers.messages import Messages
from statestream.models.data.readers.tracks import Track
from statestream.models.data.tables import DataError

_MOST_MESSAGES, _MOST_BYTES = 4096, 1 << 20
"""Size of a batch, which bounds memory and keeps a batch in the processor's cache."""


class MessageBatches:
    """Messages of one topic on their way into its track.

    Args:
        layout: where the fields are; None: the library decodes all.
        decoders: decode messages one by one, by their type.
    """

    def __init__(
        self, path: Path, track: Track, layout: MessageLayout | None, decoders: Mapping[str, Messages]
    ) -> None:
        self._path = path
        self.track = track
        self._layout = layout
        self._decoders = decoders
        self._most = _MOST_MESSAGES if layout is not None else 1
        self._kind = ""
        self._clear()

    def add(self, place: int, logged_ns: int, data: bytes, kind: str) -> None:
        """Add a message of a type."""
        self._place.append(place)
        self._logged_ns.append(logged_ns)
        self._messages.append(data)
        self._bytes += len(data)
        self._kind = kind
        if len(self._messages) >= self._most or self._bytes >= _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Move the messages into the track.

        Raises:
            DataError: a message does not have a field; the text names the message.
        """
        found = self._layout.decode(self._messages) if self._layout is not None and self._messages else None
        if found is None:
            self._add_each()
        else:
            columns, stamped_ns = found
            self.track.extend(self._place, self._logged_ns, stamped_ns, columns)
        self._clear()

    def _add_each(self) -> None:
        for place, logged_ns, data in zip(self._place, self._logged_ns, self._messages, strict=True):
            try:
                self.track.add(place, logged_ns, data, self._decoders[self._kind])
            except DataError as error:
                at = f"message {len(self.track)} of {self.track.name} ({self._kind})"
                raise DataError(f"{self._path}: {at}: {error}") from None

    def _clear(self) -> None:
        self._place: list[int] = []
        self._logged_ns: list[int] = []
        self._messages: list[bytes] = []
        self._bytes = 0
