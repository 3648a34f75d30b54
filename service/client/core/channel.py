"""Channel record: one session on a stream, kept across its connections."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from statestream.models.spec import Int64Array
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.callbacks import call_guarded
from statestream.service.client.core.inbox import Inbox
from statestream.service.client.core.process import check_process
from statestream.service.client.core.rejection import RejectionRetry
from statestream.service.client.core.send_queue import ModelKey
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.options import SessionOptions
from statestream.service.errors import FailedPrecondition, ResourceExhausted, StatestreamError
from statestream.service.protocol.limits import MAX_CHANNEL

log = logging.getLogger("statestream.client")


class ClosedError(FailedPrecondition):
    """The application closed the session itself."""


class Channel:
    """Facts of the session on one channel, and of its opens on one connection after another.

    Args:
        opened: the server's first answer.
        outputs: outputs that the application asked for.
    """

    def __init__(
        self, opened: pb.Opened, model: ModelInfo, options: SessionOptions, outputs: Sequence[str], inbox: Inbox
    ) -> None:
        self.number: int = opened.channel
        self.numbers: Int64Array = np.array([opened.channel], np.int64)
        """`number` for the vectorised methods of `ChannelTable`."""
        self.session_id: str = opened.session_id
        self.model = model
        self.model_key: ModelKey = (model.name, model.version)
        self.options = options
        self.resumed: bool = opened.resumed
        self.idle_ttl_s: float = opened.idle_ttl_s
        self.epoch: int = opened.epoch
        self.inbox = inbox
        self.retry = RejectionRetry()
        self.restarting = False
        self.error: StatestreamError | None = None
        """What ended the session."""
        self._opens = 0
        self._request = pb.Open(
            channel=opened.channel,
            session_id=opened.session_id,
            model=opened.model,
            resume=pb.RESUME_MODE_EXISTING,
            take_over=True,
            policy=options.policy.message(),
            outputs=outputs,
            protocol_version=PROTOCOL_VERSION,
        )

    def check(self) -> None:
        """Raise the error that ended the session, if one did, or FailedPrecondition in a forked child."""
        check_process()
        if self.error is not None:
            raise self.error

    # Connections

    def request(self) -> pb.Open:
        """The Open for a new connection.

        Takes over, as the server may still hold the old one.
        """
        self._opens += 1
        request = pb.Open()
        request.CopyFrom(self._request)
        return request

    def was_taken(self, opened: pb.Opened, base: int, next_seq: int) -> bool:
        """Whether another client owned the session meanwhile: unknown epochs, or rows not sent here.

        Args:
            base: seq that the server counts from.
            next_seq: seq of the next row of this client.
        """
        ours = self.restarting or 0 < opened.epoch - self.epoch <= self._opens
        return not ours or opened.settled_seq + base >= next_seq

    def reopened(self, opened: pb.Opened) -> None:
        """The session is open again on a new connection."""
        self.epoch, self._opens, self.restarting = opened.epoch, 0, False
        self._request.resume = pb.RESUME_MODE_EXISTING

    def restart(self) -> None:
        """Restart the session with the next Open: the server no longer has it."""
        self.restarting = True
        self._request.resume = pb.RESUME_MODE_UNSPECIFIED

    def end(self, error: StatestreamError | None) -> StatestreamError:
        """End the session and fail its rows in flight.

        Args:
            error: None: the application closed the session.

        Returns:
            The error that later calls raise.
        """
        self.error = error or ClosedError(f"session '{self.session_id}' is closed", field="session_id")
        self.retry.cancel()
        self.inbox.end(self.error)
        return self.error

    def lost_rows(self, first_seq: int, last_seq: int) -> None:
        """Report rows that the server needs and the client has dropped.

        They are sent as SKIP.
        """
        if self.options.on_loss is None:
            log.warning(
                "session '%s': rows %d to %d are lost: the server needs them, the buffer dropped them",
                self.session_id,
                first_seq,
                last_seq,
            )
        else:
            what = f"on_loss of session '{self.session_id}'"
            call_guarded(what, self.options.on_loss, first_seq, last_seq)


class BoundChannels:
    """Channels with a session, by number, and the numbers that are free; the channel manager writes it."""

    def __init__(self) -> None:
        self.by_number: dict[int, Channel] = {}
        self.generation = 0
        """Counts up whenever a session starts or ends."""
        self._free: list[int] = []
        self._next = 0

    def take_number(self) -> int:
        """Remove and return a free number.

        Raises:
            ResourceExhausted: all are in use.
        """
        if self._free:
            return self._free.pop()
        if self._next > MAX_CHANNEL:
            raise ResourceExhausted(
                f"a stream has at most {MAX_CHANNEL + 1} sessions; use another", field="open.channel"
            )
        self._next += 1
        return self._next - 1

    def free(self, number: int) -> None:
        """Give a number back."""
        self._free.append(number)

    def bind(self, channel: Channel) -> None:
        """Add a channel."""
        self.by_number[channel.number] = channel
        self.generation += 1

    def unbind(self, number: int) -> Channel | None:
        """Remove and return a channel; None: it has no session."""
        channel = self.by_number.pop(number, None)
        self.generation += channel is not None
        return channel
