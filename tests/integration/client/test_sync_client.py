"""The blocking client against the fake server, which runs on the client's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from statestream.service.client import Client, Verdict, connect
from statestream.service.client.sync import LoopThread
from statestream.service.errors import InvalidArgument, NotFound
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
