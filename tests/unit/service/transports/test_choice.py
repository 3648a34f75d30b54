"""Which transport a setting means on a machine, and what is said where the native one is not to be had."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from statestream.service.errors import FailedPrecondition
from statestream.service.transports import choice
from statestream.service.transports.choice import choose, lacking

uvloop = pytest.importorskip("uvloop")


async def chosen(wanted: choice.Wanted) -> str:
    return choose(wanted)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the native transport had been built; it is not used."""
    monkeypatch.setattr(choice, "lacking", lambda: "")


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, choice._CORE, None)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("wanted", ["auto", "native", "grpc"])
def test_on_uvloop_auto_is_the_native_one(wanted: choice.Wanted) -> None:
    assert uvloop.run(chosen(wanted)) == ("grpc" if wanted == "grpc" else "native")


@pytest.mark.usefixtures("built")
def test_on_asyncios_loop_auto_is_grpcs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert asyncio.run(chosen("auto")) == "grpc"
    assert caplog.messages == ["the native transport is for uvloop's event loop"]
    assert asyncio.run(chosen("native")) == "native"


@pytest.mark.usefixtures("not_built")
def test_where_it_was_not_built_auto_says_once_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert uvloop.run(chosen("auto")) == "grpc"
    assert uvloop.run(chosen("grpc")) == "grpc"
    (said,) = caplog.messages
    assert "g++ and libnghttp2-dev" in said
    assert "a third of the CPU time" in said
    with pytest.raises(FailedPrecondition, match="transport: the native transport was not built"):
        uvloop.run(chosen("native"))


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("libnghttp2.so.14: cannot open shared object file")

    monkeypatch.setattr(choice, "import_module", fail)
    assert lacking().startswith("the native transport cannot be loaded: libnghttp2.so.14")


def test_another_system_is_told_that_it_is_for_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert lacking().startswith("the native transport is for Linux")
