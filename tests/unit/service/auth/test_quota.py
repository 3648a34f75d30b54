"""What one caller may use, and all together."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from statestream.service.auth.identity import SERVER, Identity, Role
from statestream.service.auth.quota import Quotas
from statestream.service.config import ServerConfig
from statestream.service.errors import ResourceExhausted
from tests.conftest import FakeClock

ARM = Identity("arm", frozenset({Role.STREAM}))
LEG = Identity("leg", frozenset({Role.STREAM}))


def allowances(clock: FakeClock, **config: Any) -> Quotas:
    return Quotas(ServerConfig(**config), clock)


def test_streams_are_counted_for_each_and_for_all(clock: FakeClock) -> None:
    all_ = allowances(clock, max_streams=3, max_streams_per_client=2)
    with ExitStack() as open_:
        for who in (ARM, ARM):
            open_.enter_context(all_.of(who).stream())
        with pytest.raises(ResourceExhausted, match="'arm' has 2 streams"), all_.of(ARM).stream():
            pass
        open_.enter_context(all_.of(LEG).stream())
        with pytest.raises(ResourceExhausted, match="the server has 3 streams"), all_.of(LEG).stream():
            pass
    assert (all_.streams, all_.of(ARM).streams, all_.of(LEG).streams) == (0, 0, 0)


def test_steps_beyond_the_rate_wait_and_those_that_would_wait_long_are_refused(clock: FakeClock) -> None:
    arm = allowances(clock, max_steps_per_s_per_client=100).of(ARM)
    assert arm.wait_s(100) == 0, "as many as a second has pass at once"
    assert arm.wait_s(50) == pytest.approx(0.5)
    clock.now_s += 1.0
    assert arm.wait_s(50) == pytest.approx(0), "what was made to wait has used what came since"
    with pytest.raises(ResourceExhausted) as error:
        arm.wait_s(2000)
    assert error.value.retry_after_s == pytest.approx(20)
    clock.now_s += 1.0
    assert arm.wait_s(100) == 0, "what was refused does not count"


def test_one_clients_steps_are_not_anothers_but_all_share_what_all_may(clock: FakeClock) -> None:
    apart = allowances(clock, max_steps_per_s_per_client=100)
    apart.of(ARM).wait_s(1000)
    assert apart.of(LEG).wait_s(100) == 0
    shared = allowances(clock, max_steps_per_s=100)
    shared.of(ARM).wait_s(100)
    assert shared.of(LEG).wait_s(10) == pytest.approx(0.1)


def test_nobody_in_particular_has_no_limits_of_one(clock: FakeClock) -> None:
    nobody = allowances(clock, max_steps_per_s_per_client=1, max_streams_per_client=1).of(SERVER)
    assert nobody.wait_s(10**6) == 0
    with nobody.stream(), nobody.stream():
        assert nobody.streams == 2
