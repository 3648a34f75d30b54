"""An argument of a wrong type or range: InvalidArgument names it and says what to give, and the stream goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from statestream.service.client import Policy, connect
from statestream.service.client.sync import LoopThread
from statestream.service.errors import InvalidArgument
from tests.support.fake_service import start_fake

Use = Callable[[SimpleNamespace], object]


@pytest.fixture(scope="module")
def at() -> Iterator[SimpleNamespace]:
    """A client with a stream and a session on it."""
    loop = LoopThread()
    _, server, target = loop.run(start_fake())
    with connect(target) as client, client.stream() as stream:
        yield SimpleNamespace(target=target, client=client, stream=stream, session=stream.open("leaky", "wrist"))
    loop.run(server.stop(0))
    loop.stop()


@pytest.fixture(scope="module")
def seqs() -> Iterator[int]:
    return iter(range(1, 10_000))


def opening(**wrong: Any) -> Use:
    return lambda at: at.stream.open("leaky", **wrong)


def connecting(**wrong: Any) -> Use:
    return lambda at: connect(**({"target": at.target} | wrong))


WRONG: dict[str, tuple[Use, str]] = {
    "number as session_id": (opening(session_id=7), "session_id: 7, expected text: '7'"),
    "None as session_id": (opening(session_id=None), "session_id: None, expected text"),
    "half a character": (opening(session_id="a\ud800"), r"session_id: 'a\\ud800', expected text"),
    "number as model": (lambda at: at.stream.open(7), "model: 7, expected text: '7'"),
    "text as version": (opening(version="1"), "version: '1', expected a whole number"),
    "float as version": (opening(version=1.0), r"version: 1\.0, expected a whole number"),
    "bool as version": (opening(version=True), "version: True, expected a whole number"),
    "text as outputs": (opening(outputs="y"), "outputs: 'y', expected a list of texts"),
    "number as outputs": (opening(outputs=7), "outputs: 7, expected a list of texts"),
    "number in outputs": (opening(outputs=[7]), r"outputs: \[7\], expected a list of texts"),
    "unknown resume": (opening(resume="yes"), "resume: 'yes', expected 'auto' or 'new' or 'existing'"),
    "text as take_over": (opening(take_over="no"), "take_over: 'no', expected True or False"),
    "text as policy": (opening(policy="drop"), "policy: 'drop', expected a value of class Policy"),
    "text as ring_rows": (opening(ring_rows="3"), "ring_rows: '3', expected a whole number from 1"),
    "half a row in the ring": (opening(ring_rows=2.5), r"ring_rows: 2\.5, expected a whole number"),
    "unknown on_full": (opening(on_full=3), "on_full: 3, expected 'block' or 'lose'"),
    "text as on_loss": (opening(on_loss="log"), "on_loss: 'log', expected a function"),
    "text as keep_last": (lambda _: Policy(keep_last="2"), "keep_last: '2', expected a whole number"),
    "huge keep_last": (lambda _: Policy(keep_last=2**40), "keep_last: 1099511627776, expected a whole number"),
    "bool as keep_last": (lambda _: Policy(keep_last=True), "keep_last: True, expected a whole number"),
    "text as deadline": (lambda _: Policy(deadline_s="1"), "deadline_s: '1', expected seconds"),
    "no number as deadline": (lambda _: Policy(deadline_s=float("nan")), "deadline_s: nan, expected seconds"),
    "unknown late": (lambda _: Policy(late=[]), r"late: \[\], expected 'drop' or 'suppress'"),
    "number as name": (lambda at: at.client.get_model(7), "name: 7, expected text"),
    "number as service": (lambda at: at.client.serving(7), "service: 7, expected text"),
    "number as admin's id": (lambda at: at.client.admin.close_session(7), "session_id: 7, expected text"),
    "negative limit": (lambda at: at.client.admin.list_sessions(limit=-1), "limit: -1, expected a whole number"),
    "text as snapshot": (lambda at: at.client.admin.restore_session("x"), "snapshot: 'x', expected bytes"),
    "unknown upgrade": (
        lambda at: at.client.admin.load_model("leaky", policy="now"),
        "policy: 'now', expected 'pin' or 'carry' or 'shadow'",
    ),
    "number as route key": (lambda at: at.client.stream(route_key=7).open("leaky"), "route_key: 7, expected a text"),
    "accent in a route key": (lambda at: at.client.stream(route_key="é").open("leaky"), "route_key: 'é', .* ASCII"),
    "number as target": (connecting(target=7), "target: 7, expected HOST:PORT or unix:PATH"),
    "no port": (connecting(target="robot"), "target: 'robot', expected HOST:PORT"),
    "port beyond the last": (connecting(target="robot:99999"), "target: 'robot:99999', expected HOST:PORT"),
    "port 0": (connecting(target="robot:0"), "target: 'robot:0', expected HOST:PORT of a server"),
    "a web address": (connecting(target="http://robot:1"), "target: 'http://robot:1', expected HOST:PORT"),
    "mapping as metadata": (connecting(metadata={"a": "b"}), "metadata: .*, expected pairs"),
    "capitals in metadata": (connecting(metadata=[("A", "b")]), "metadata: name 'A', expected lower-case"),
    "number in metadata": (connecting(metadata=[("a", 7)]), r"metadata\['a'\]: 7, expected a text"),
    "text as timeout": (connecting(timeout_s="3"), "timeout_s: '3', expected seconds above 0"),
    "no time at all": (connecting(timeout_s=0), "timeout_s: 0, expected seconds above 0"),
    "text as patience": (connecting(give_up_after_s="1"), "give_up_after_s: '1', expected seconds"),
    "None as access": (connecting(access=None), "access: None, expected a value of class Access"),
    "no row skipped": (lambda at: at.session.skip(0), "rows: 0, expected a whole number from 1"),
    "text skipped": (lambda at: at.session.skip("3"), "rows: '3', expected a whole number"),
    "text as age": (lambda at: at.session.latest("3"), "max_age_s: '3', expected seconds"),
    "number as callback": (lambda at: at.session.on_stale(1.0, 3), "callback: 3, expected a function"),
    "no age to watch": (lambda at: at.session.on_stale(0, print), "max_age_s: 0, expected seconds above 0"),
    "text as end_session": (lambda at: at.session.close(end_session="no"), "end_session: 'no', expected True or False"),
    "number as group": (lambda at: at.stream.burst(7, [[1, 1]]), "sessions: 7, expected a list"),
    "number in a group": (lambda at: at.stream.group([7]), "sessions: 7, expected a value of class Session"),
    "text as time": (lambda at: at.session.step([1, 1], "1"), "timestamp_ns: '1', expected whole nanoseconds"),
    "bool as time": (lambda at: at.session.step([1, 1], True), "timestamp_ns: True, expected whole nanoseconds"),
}


@pytest.mark.parametrize(("use", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_named(at: SimpleNamespace, seqs: Iterator[int], use: Use, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        use(at)
    assert at.session.step([1, 1]).seq == next(seqs), "the session goes on"


RIGHT: dict[str, dict[str, Any]] = {
    "numpy's text": {"session_id": np.str_("a")},
    "numpy's number": {"version": np.int64(1)},
    "1 for True": {"take_over": 1},
    "names in a tuple": {"outputs": ("y",)},
    "a deadline that never comes": {"policy": Policy(deadline_s=1e300)},
    "numpy's seconds": {"policy": Policy(deadline_s=np.float32(0.5))},
}


@pytest.mark.parametrize("right", RIGHT.values(), ids=RIGHT)
def test_what_means_the_same_is_taken(at: SimpleNamespace, right: dict[str, Any]) -> None:
    with at.stream.open("leaky", **right) as session:
        assert session.step([1, 1]).seq == 1
