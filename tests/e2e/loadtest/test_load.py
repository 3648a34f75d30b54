"""What the load test notices: wrong outputs, broken streams, reconnects, the server's own account."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from statestream.models.bundle import CHUNK, STEP, Bundle, write_bundle
from statestream.service.client.credentials import Access
from statestream.service.errors import Unavailable
from statestream.service.loadtest.report import failed
from tests.conftest import leaky_manifest
from tests.e2e.loadtest.conftest import Load
from tests.support.bundles import leaky_golden, write_leaky

StartStub = Callable[..., Awaitable[int]]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The stub's model. Its state has a standard deviation of ten or more, and numpy's exp is not ONNX Runtime's."""
    graphs = {name: (write_leaky(tmp_path / "strict").path / name).read_bytes() for name in (STEP, CHUNK)}
    manifest = leaky_manifest().model_copy(update={"tolerance": 1e-3})
    return write_bundle(tmp_path / "leaky" / "1", manifest, leaky_golden(), graphs)


async def test_verify_finds_every_output_right(stub: StartStub, bundle: Bundle, load: Load) -> None:
    port = await stub(delay_s=(0.0, 0.02))
    outcome = await load(
        port, streams=3, channels=2, chunk=4, rate_hz=25.0, arrival="poisson", verify=bundle.path, processes=2
    )
    verified = outcome.tally.verified
    assert verified is not None
    assert (verified.wrong, failed(outcome)) == (0, "")
    assert verified.outputs == outcome.tally.verdicts["APPLIED"] >= outcome.tally.answered * 8 > 100


async def test_verify_catches_one_wrong_output(stub: StartStub, bundle: Bundle, load: Load) -> None:
    port = await stub(wrong_seq=13)
    outcome = await load(port, streams=2, rate_hz=40.0, verify=bundle.path)
    verified = outcome.tally.verified
    assert verified is not None
    assert verified.wrong == 2
    assert "seq 13" in verified.first
    assert "2 of" in failed(outcome)


async def test_answers_that_come_together_each_count(stub: StartStub, bundle: Bundle, load: Load) -> None:
    """Rows of a session that waited for one turn are answered by one message."""
    port = await stub(together=3)
    outcome = await load(port, streams=2, rate_hz=50.0, verify=bundle.path)
    tally = outcome.tally
    assert tally.answered + tally.unanswered == tally.due
    assert tally.unanswered <= 2 * 2, "those that wait for a third one at the end"
    assert tally.verified is not None
    assert tally.verified.wrong == 0 < tally.verified.outputs


async def test_streams_leave_and_resume_their_sessions(stub: StartStub, bundle: Bundle, load: Load) -> None:
    port = await stub()
    outcome = await load(port, streams=4, rate_hz=40.0, reconnect_every_s=0.4, verify=bundle.path, duration_s=1.5)
    tally = outcome.tally
    assert tally.reconnects >= 8
    assert tally.reconnect.count == tally.reconnects
    assert tally.answered == tally.due
    assert not tally.statuses
    # A session that did not go on where it was would not equal one rollout.
    assert tally.verified is not None
    assert tally.verified.wrong == 0


async def test_a_broken_stream_is_counted_and_starts_anew(stub: StartStub, load: Load) -> None:
    port = await stub(dies_at_seq=20)
    outcome = await load(port, streams=2, rate_hz=40.0, warmup_s=0.0, deadline_ms=500.0)
    tally = outcome.tally
    assert tally.statuses == {"UNAVAILABLE": 1}
    assert "planted" in tally.first_error
    assert tally.unanswered >= 1
    assert tally.misses >= tally.unanswered
    assert tally.answered + tally.unanswered == tally.due


async def test_what_is_answered_after_the_end_is_counted_once(stub: StartStub, load: Load) -> None:
    """Answers that come while sessions are being ended were given up already."""
    port = await stub(rows_per_s=40.0)
    tally = (await load(port, streams=2, rate_hz=50.0, duration_s=2.0, deadline_ms=20.0, drain_s=0.5)).tally
    assert tally.answered + tally.unanswered == tally.due
    assert tally.unanswered > 20
    assert tally.misses <= tally.due


async def test_the_server_s_own_account_and_verdicts_are_reported(stub: StartStub, load: Load) -> None:
    tally = (await load(await stub(), rate_hz=50.0)).tally
    assert (tally.queue.p(50), tally.compute.p(50)) == (7, 11)
    assert tally.verdicts["APPLIED"] >= tally.answered == tally.due
    assert tally.batches == tally.responses


async def test_a_load_that_cannot_begin_says_why(stub: StartStub, unused_tcp_port: int, load: Load) -> None:
    with pytest.raises(Unavailable, match="UNAVAILABLE"):
        await load(unused_tcp_port)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder of `cert.pem` and `key.pem` for localhost."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        ],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path


async def test_a_tls_target(stub: StartStub, certificate: Path, load: Load) -> None:
    port = await stub(certificate=str(certificate))
    outcome = await load(f"localhost:{port}", access=Access(ca=certificate / "cert.pem"), rate_hz=50.0)
    assert outcome.tally.answered == outcome.tally.due > 0
    with pytest.raises(Unavailable):
        await load(f"localhost:{port}")
