"""The blocking client against the fake server, which runs on the client's own loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from statestream.service.client import Access, Client, Verdict, connect
from statestream.service.client.sync import LoopThread
from statestream.service.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.support.fake_service import start_fake


@pytest.fixture
def client() -> Iterator[Client]:
    server_loop = LoopThread()
    _, server, target = server_loop.run(start_fake())
    with connect(target) as client:
        yield client
    server_loop.run(server.stop(0))
    server_loop.stop()


def test_the_whole_of_it(client: Client) -> None:
    assert client.list_models()[0].name == "leaky"
    with client.stream() as stream, stream.open("leaky", "wrist") as session:
        assert session.step([1, 1], 10**9).y.shape == (2,)
        assert session.chunk(np.ones((5, 2))).counts() == {Verdict.APPLIED: 5}
        assert [session.send([1, 1]) for _ in range(3)] == [7, 8, 9]
        assert [result.seq for result in islice(session.results(), 3)] == [7, 8, 9]
        latest = session.latest(10)
        assert latest is not None
        assert latest.seq == 9
        assert session.skip().counts() == {Verdict.SKIPPED: 1}
        others = [stream.open("leaky") for _ in range(3)]
        assert stream.burst(others, np.ones((3, 2))).y.shape == (3, 2)


def test_errors_are_those_of_the_tree(client: Client) -> None:
    with client.stream() as stream:
        with pytest.raises(NotFound, match=r"open\.model"):
            stream.open("other")
        session = stream.open("leaky")
        with pytest.raises(InvalidArgument, match="shape"):
            session.step([1, 2, 3])


def test_closing_without_leaving_the_blocks(client: Client) -> None:
    stream = client.stream().__enter__()
    stream.open("leaky").step([1, 1])


async def test_it_works_where_a_loop_runs_already(client: Client) -> None:
    """As in a notebook."""
    with connect(client.target) as another:
        assert another.list_models()[0].name == "leaky"


def test_a_stream_starts_with_its_first_session_and_close_ends_it(client: Client) -> None:
    stream = client.stream()
    session = stream.open("leaky", "wrist")
    assert session.step([1, 1]).seq == 1
    stream.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        session.step([1, 1])
    with pytest.raises(FailedPrecondition, match="the stream is closed"):
        stream.open("leaky")
    session.close()
    stream.close()
    assert client.stream().open("leaky", "wrist").settled_seq == 1, "the session waited"


def test_a_stream_that_never_started_closes(client: Client) -> None:
    stream = client.stream()
    stream.close()
    with pytest.raises(FailedPrecondition, match="the stream is closed"), stream:
        pass


def test_close_of_a_client_closes_its_streams_and_what_follows_says_so(client: Client) -> None:
    another = connect(client.target)
    stream = another.stream()
    session = stream.open("leaky")
    session.send([1, 1])
    results = session.results()
    assert next(results).seq == 1
    another.close()
    another.close()
    stream.close()
    session.close()
    results.close()
    for use in (
        another.list_models,
        another.stream,
        another.admin.drain,
        lambda: stream.open("leaky"),
        lambda: session.step([1, 1]),
        session.latest,
        lambda: next(session.results()),
    ):
        with pytest.raises(FailedPrecondition, match="the client is closed"):
            use()


def test_a_client_that_cannot_be_made_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(InvalidArgument, match="nowhere"):
        connect("127.0.0.1:1", access=Access(ca=Path("nowhere.pem")))
    assert threading.active_count() == before
