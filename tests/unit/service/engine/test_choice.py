"""Which engine a setting means on a machine, and what is said where the native one is not to be had."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from statestream.service.engine import choice, providers
from statestream.service.engine.choice import choose, lacking
from statestream.service.errors import FailedPrecondition


@pytest.fixture(autouse=True)
def _looked_up_again() -> Iterator[None]:
    lacking.cache_clear()
    yield
    lacking.cache_clear()


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"{choice._PACKAGE}.session", None)


def test_where_it_works_auto_is_the_native_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "lacking", lambda: "")
    assert [choose(wanted) for wanted in ("auto", "native", "python")] == ["native", "native", "python"]


@pytest.mark.usefixtures("not_built")
def test_where_it_was_not_built_auto_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert [choose(wanted) for wanted in ("auto", "python")] == ["python", "python"]
    (said,) = caplog.messages
    assert "it needs g++" in said
    assert "of the CPU time" in said
    with pytest.raises(FailedPrecondition, match="engine: the native engine was not built"):
        choose("native")


def test_another_system_is_told_that_it_is_for_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert lacking().startswith("the native engine is for Linux")


def test_where_onnxruntime_is_missing_only_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(f"{choice._PACKAGE}._core", reason="the native engine is not built")

    def absent() -> Any:
        raise FailedPrecondition("onnxruntime is not installed")

    monkeypatch.setattr(providers, "runtime", absent)
    assert lacking() == ""


class Odd:
    """A session of a runtime whose functions are not where they were."""

    def __init__(self, result: float, error: Exception | None = None) -> None:
        self.result, self.error = result, error

    def __call__(self, path: str, options: Any) -> Odd:
        if self.error is not None:
            raise self.error
        return self

    def run(self, fetch: Any, feed: Any) -> list[Any]:
        return [np.full_like(feed["x"], self.result)]

    def get_inputs(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("session", "said"),
    [(Odd(0.5), "does not compute what onnxruntime"), (Odd(0.0, RuntimeError("no such function")), "no such function")],
    ids=["other results", "an error"],
)
def test_a_runtime_that_it_does_not_work_with_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, session: Odd, said: str
) -> None:
    native = pytest.importorskip(f"{choice._PACKAGE}.session", reason="the native engine is not built")
    monkeypatch.setattr(native, "NativeSession", session)
    assert said in lacking()
    assert providers.runtime().__version__ in lacking()


def test_it_works_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(f"{choice._PACKAGE}._core", reason="the native engine is not built")
    monkeypatch.setattr("tempfile.tempdir", "/dev/null/none")
    assert lacking() == ""
