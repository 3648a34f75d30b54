"""The C++ echo and sender of `make bench` are built, and send every load to a server and to the echo."""

from __future__ import annotations

import os

import pytest

from statestream.models.spec import Manifest
from statestream.service.server.server import Server
from statestream.service.serving.stats import stats_of
from tests.bench.cpp_sender import LOADS, PROGRAMS, Load, measure
from tests.bench.servers import CPP_ECHO, OURS, Bed, Running, running
from tests.support import cpp

SECONDS = 0.1


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    if why := cpp.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("bench")
    (logs := folder / "logs").mkdir()
    bed = Bed(folder, folder, logs, *[min(os.sched_getaffinity(0))] * 2)
    cpp.build(PROGRAMS, bed.programs)
    return bed


def ours(server: Server) -> Running:
    return Running(OURS, server.port, (os.getpid(),))


def manifest_of(server: Server) -> Manifest:
    return server.host.versions.find("leaky").manifest


@pytest.mark.slow
async def test_every_load_is_answered_and_its_sessions_end(bed: Bed, server: Server) -> None:
    stats = stats_of(server.host.versions.find("leaky"))
    for load in LOADS.values():
        before = sum(stats.verdicts)
        sent = await measure(bed.programs, ours(server), load, manifest_of(server), SECONDS)
        assert 0 < sent.p50_us <= sent.p99_us <= sent.p999_us
        assert sum(stats.verdicts) - before >= sent.messages_s * SECONDS * load.channels
        assert len(server.host.session_manager.registry) == 0


@pytest.mark.slow
async def test_the_echo_sends_every_load_back(bed: Bed, server: Server) -> None:
    with running(CPP_ECHO, bed) as echo:
        for load in LOADS.values():
            sent = await measure(bed.programs, echo, load, manifest_of(server), SECONDS)
            assert sent.messages_s > 0
            assert sent.dropped == 0


async def test_a_sender_that_is_refused_is_an_error(bed: Bed, server: Server) -> None:
    nowhere = manifest_of(server).model_copy(update={"name": "nope"})
    with pytest.raises(RuntimeError, match="the sender failed"):
        await measure(bed.programs, ours(server), Load(), nowhere, SECONDS)
