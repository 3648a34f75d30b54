"""Metadata of gRPC as HTTP/2 carries it."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.service.transports.native.metadata import encoded, received, timeout_s, trailers


@given(st.binary(max_size=40), st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20))
def test_what_is_encoded_is_received(binary: bytes, text: str) -> None:
    pairs = (("key", text), ("key-bin", binary))
    assert received(encoded(pairs)) == pairs


def test_values_that_a_proxy_has_joined_come_apart_and_padding_is_optional() -> None:
    assert received([(b"k-bin", b"AAE,AAE=")]) == (("k-bin", b"\x00\x01"),) * 2


def test_what_is_grpcs_own_or_no_base64_is_left_out() -> None:
    assert received([(b"grpc-timeout", b"1S"), (b"k-bin", b"?"), (b"a", b"b")]) == (("a", "b"),)


def test_a_message_is_percent_encoded() -> None:
    code, message = trailers(grpc.StatusCode.NOT_FOUND, "no 'ü' in 100 %\n")
    assert code == (b"grpc-status", b"5")
    assert message == (b"grpc-message", b"no '%C3%BC' in 100 %25%0A")
    assert trailers(grpc.StatusCode.OK, "") == [(b"grpc-status", b"0")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"250m", 0.25), (b"5u", 5e-6), (b"7n", 7e-9), (b"1", None),
     (b"", None), (b"x1S", None), (b"-1S", None), (b"123456789S", None), (b"1s", None)],
)  # fmt: skip
def test_timeouts(text: bytes, seconds: float | None) -> None:
    assert timeout_s([(b"a", b"5S"), (b"grpc-timeout", text)]) == (pytest.approx(seconds) if seconds else None)
