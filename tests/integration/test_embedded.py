"""The same answers inside a process as through the service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from statestream.service.client import AsyncClient, Verdict
from statestream.service.config import ServerConfig
from statestream.service.embedded import Embedded
from statestream.service.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from statestream.service.server.server import Server
from tests.support.bundles import write_leaky


@pytest.fixture
def model(tmp_path: Path) -> Embedded:
    return Embedded.open(write_leaky(tmp_path).path)


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    t_ns = np.cumsum(random.integers(1, 10**9, n))
    t_ns[n // 2] = 0  # backwards
    x = random.normal(size=(n, 2)).astype(np.float32)
    x[n // 3, 1] = np.nan
    return x, t_ns


async def test_embedded_equals_served(model: Embedded, tmp_path: Path) -> None:
    x, t_ns = rows(700)
    server = Server(ServerConfig(repository=tmp_path, address="127.0.0.1:0", providers=("cpu",), drain_s=1))
    await server.start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        served = await (await stream.open("leaky")).chunk(x, t_ns)
    await server.stop()
    inside = model.session().chunk(x, t_ns)
    np.testing.assert_array_equal(inside.verdict, served.verdict)
    np.testing.assert_array_equal(inside.row, served.row)
    np.testing.assert_array_equal(inside.dt_s, served.dt_s)
    np.testing.assert_allclose(inside.y, served.y, rtol=1e-6)
    assert inside.details == served.details
    assert set(inside.counts()) == {Verdict.APPLIED, Verdict.INVALID}


def test_stepped_equals_chunked_and_bursts_batch(model: Embedded) -> None:
    x, t_ns = rows(60)
    whole = model.session("whole").chunk(x, t_ns)
    one, two = model.session("one"), model.session("two")
    for k in range(60):
        step = one.step(x[k], int(t_ns[k]))
        both = model.burst([two, model.session()], np.stack([x[k], x[k]]), [t_ns[k], t_ns[k]])
        assert step.verdict == whole.verdict[k] == both.verdict[0]
        if step.verdict is Verdict.APPLIED:
            np.testing.assert_allclose(step.y, whole[k].y, rtol=1e-6)
            np.testing.assert_allclose(both[0].y, whole[k].y, rtol=1e-6)
            assert both.batch == 2
    np.testing.assert_allclose(one.state["h"], two.state["h"], rtol=1e-6)


def test_sessions_end_reset_and_refuse(model: Embedded) -> None:
    session = model.session("s")
    with pytest.raises(AlreadyExists, match="'s'"):
        model.session("s")
    with pytest.raises(InvalidArgument, match="shape"):
        session.step(np.zeros(3))
    with pytest.raises(InvalidArgument, match="twice"):
        model.burst([session, session, model.session()], np.zeros((3, 2)))
    session.step(np.ones(2))
    session.reset()
    np.testing.assert_array_equal(session.state["h"], [0.5, 0.5])
    session.close()
    session.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        session.step(np.zeros(2))


def test_what_was_told_is_not_kept(model: Embedded) -> None:
    session = model.session()
    for _ in range(300):
        session.chunk(np.zeros((256, 2), np.float32))
    assert model.table.log_bytes < 2**20
