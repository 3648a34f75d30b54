"""Files of a token and of TLS, and what to change where a connection fails for their sake."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import pytest

from statestream.service.client.credentials import Access
from statestream.service.errors import InvalidArgument

BEARER = (("authorization", "Bearer arm.secret"),)


@pytest.mark.parametrize("text", ["arm.secret", "arm.secret\n", "\ufeffarm.secret\r\n"], ids=["bare", "line", "mark"])
def test_a_token_is_the_text_of_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    assert Access(token_file=tmp_path / "token").metadata() == BEARER


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no token, expected NAME.SECRET and nothing else"),
        (b"arm.secret eye.secret", "holds no token"),
        (b"arm.secret\neye.secret", "holds no token"),
        ("bras-é.secret".encode(), "holds no token"),
        ("arm.secret".encode("utf-16"), "byte 0 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_without_a_token_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "arm.token").write_bytes(data)
    with pytest.raises(InvalidArgument, match=f"arm.token:? {words}"):
        Access(token_file=tmp_path / "arm.token").metadata()


@pytest.mark.parametrize("field", ["ca", "cert", "key"])
def test_a_file_that_is_no_pem_is_named(tmp_path: Path, field: str) -> None:
    pem, other = tmp_path / "good.pem", tmp_path / "other.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    other.write_text("no certificate\n")
    files = {"ca": pem, "cert": pem, "key": pem} | {field: other}
    with pytest.raises(InvalidArgument, match=r"other\.pem is not a PEM file"):
        Access(**files).credentials()


def test_a_byte_order_mark_is_no_part_of_a_pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(BOM_UTF8 + b"-----BEGIN CERTIFICATE-----\n")
    read: list[bytes | None] = []
    monkeypatch.setattr("grpc.ssl_channel_credentials", lambda *files: read.extend(files))
    Access(ca=ca).credentials()
    assert read == [b"-----BEGIN CERTIFICATE-----\n", None, None]
