"""From messages to rows, and from results to predictions: all of the node that needs no ROS.

As in a robot's log, each message of the first topic is a row, at its own stamp, with what the other topics were last
heard to say (`statestream.models.data.readers.ros_logs`). So a model trained on logs sees live what it saw there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np

from statestream.models.data.message_fields import MessageField, stamp_ns
from statestream.models.data.pictures import as_jpeg, decoded
from statestream.models.data.tables import DataError
from statestream.models.relative import Relative
from statestream.models.spec import NO_TIME, Array, Manifest
from statestream.service.client import AsyncClient, AsyncSession
from statestream.service.client.ros2 import message_of
from statestream.service.errors import InvalidArgument
from statestream_ros2.settings import Settings

_CLOSE_S = 2.0


@asynccontextmanager
async def bridging(settings: Settings) -> AsyncIterator[Bridge]:
    """A bridge to a session on the server, which stays there to be resumed if it has a name.

    Raises:
        StatestreamError: there is no server, no such model, or the features do not fit it.
    """
    name, _, version = settings.model.partition(":")
    policy = settings.policy
    keeps_all = not policy.keep_last and not policy.deadline_s
    async with AsyncClient(settings.target, access=settings.access) as client, client.stream() as stream:
        session = await stream.open(
            name,
            settings.session,
            version=int(version or 0),
            take_over=bool(settings.session),  # a node that died may still seem to hold it
            policy=policy,
            on_full="block" if keeps_all else "lose",
            on_lost="restart",
        )
        try:
            yield Bridge(session, Rows(session.manifest, settings.features))
        finally:
            with suppress(asyncio.TimeoutError):  # the connection may be lost just now
                await asyncio.wait_for(session.close(end_session=not settings.session), _CLOSE_S)


class Rows:
    """The rows of a model's input, from messages as they come.

    Args:
        features: the field of each element, the one field of pictures; empty: the input's labels.

    Raises:
        InvalidArgument: the features do not fit the model.
    """

    def __init__(self, manifest: Manifest, features: Sequence[str]) -> None:
        self._spec = manifest.inputs[0]
        self._far_ns = round(manifest.time.max_s * 1e9)
        names = features or self._spec.labels
        wanted = 1 if self._pictures else self._spec.size
        if len(manifest.inputs) > 1 or len(names) != wanted:
            raise InvalidArgument(
                f"{len(names)} fields, {manifest.ref} takes {wanted} in {len(manifest.inputs)} inputs", field="features"
            )
        if self._pictures and self._spec.encoding == "raw" and self._spec.colours not in (None, "rgb"):
            raise InvalidArgument(f"{manifest.ref} takes raw pixels in {self._spec.colours}, not rgb", field="model")
        try:
            self._fields = [MessageField.parse(name) for name in names]
        except DataError as error:
            raise InvalidArgument(str(error), field="features") from None
        self._values: list[Array | bytes | float | None] = [None] * wanted
        self._relative = Relative(self._spec)
        self._stamped: bool | None = None
        self._last_ns = NO_TIME

    @property
    def topics(self) -> tuple[str, ...]:
        """Those to be heard; each message of the first is a row."""
        return tuple(dict.fromkeys(field.topic for field in self._fields))

    def hear(self, topic: str, message: Any, received_ns: int) -> tuple[Array | bytes, int] | None:
        """A row and its time, where the message makes one: of the first topic, once all have been heard.

        Args:
            received_ns: by the node's clock, the time of topics whose messages bear no stamp.

        Raises:
            DataError: the message has no such field, or not what the model takes; it changes nothing.
        """
        mine = [k for k, field in enumerate(self._fields) if field.topic == topic]
        values = [self._value(self._fields[k], message) for k in mine]
        for k, value in zip(mine, values, strict=True):
            self._values[k] = value
        if topic != self._fields[0].topic or any(value is None for value in self._values):
            return None
        measured_ns = stamp_ns(message)
        if self._stamped is None:
            self._stamped = measured_ns != 0
        return self._row(), measured_ns if self._stamped else received_ns

    def restarts(self, t_ns: int) -> bool:
        """Whether a row's time is of a new clock: farther back than the model's longest dt, as when a simulation begins
        anew. (One that is a little early came out of order, and the server says so.)
        """
        restarts = self._last_ns != NO_TIME and t_ns < self._last_ns - self._far_ns
        self._last_ns = t_ns if restarts else max(t_ns, self._last_ns)
        return restarts

    @property
    def _pictures(self) -> bool:
        return self._spec.dtype == "uint8"

    def _row(self) -> Array | bytes:
        value = self._values[0]
        if isinstance(value, (bytes, np.ndarray)):
            return value
        if self._spec.dtype == "float32":
            return self._relative(self._values).reshape(self._spec.shape)
        return np.asarray(self._values, self._spec.np_dtype).reshape(self._spec.shape)

    def _value(self, field: MessageField, message: Any) -> Array | bytes | float:
        """A number, or a picture: as it is for a model that takes JPEGs, as pixels for one that takes those."""
        value = field.of(message)
        if self._pictures:
            picture = value() if callable(value) else value
            if not isinstance(picture, (bytes, np.ndarray)):
                raise DataError(f"'{field.name}' is no picture, and the model takes pictures")
            return self._picture(picture)
        if not isinstance(value, (bool, int, float)):
            raise DataError(f"'{field.name}' is no number")
        return float(value)

    def _picture(self, picture: bytes | Array) -> Array | bytes:
        height, width, _ = self._spec.shape
        span = self._spec.picture_range
        if self._spec.encoding == "jpeg":
            return as_jpeg(picture, (height, width), span)
        return decoded(picture, height, width, span=span)


class Bridge:
    """Messages in, predictions out. Made by `bridging`; it belongs to its event loop."""

    def __init__(self, session: AsyncSession, rows: Rows) -> None:
        self.manifest = session.manifest
        self.topics = rows.topics
        self._session = session
        self._rows = rows
        self._sent: deque[tuple[int, int]] = deque()
        """Seq and time of the rows that have no answer yet."""

    async def hear(self, topic: str, message: Any, received_ns: int) -> None:
        """Send the row that a message makes, if it makes one; waits where the session keeps all rows and has no room.

        Raises:
            DataError: the message is not what the model takes; nothing was sent.
            StatestreamError: the session has ended.
        """
        row = self._rows.hear(topic, message, received_ns)
        if row is None:
            return
        x, t_ns = row
        if self._rows.restarts(t_ns):
            self._session.new_clock()
        self._sent.append((await self._session.send(x, t_ns), t_ns))

    async def predictions(self) -> AsyncIterator[dict[str, Any]]:
        """The fields of a `Prediction` for each row of this bridge; raises what ended the session, if anything did.

        A session that is resumed may have answers to rows of another bridge before it; they are passed over.
        """
        async for result in self._session.results():
            t_ns = self._time_of(result.seq)
            if t_ns is not None:
                y = result.y if result.outputs else None
                yield message_of(self.manifest, self._session.session_id, result.verdict, result.dt_s, y, t_ns)

    def _time_of(self, seq: int) -> int | None:
        while self._sent and self._sent[0][0] <= seq:
            sent, t_ns = self._sent.popleft()
            if sent == seq:
                return t_ns
        return None
