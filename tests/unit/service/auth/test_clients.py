"""The clients file: tokens made, recognised, rotated, revoked."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from datetime import timedelta
from pathlib import Path

import pytest

from statestream.service.auth.clients import Clients, ClientsFile
from statestream.service.auth.identity import Role
from statestream.service.cli import main
from statestream.service.errors import InvalidArgument, NotFound, Unauthenticated

STREAM = frozenset({Role.STREAM})


def test_a_token_says_whose_it_is_and_the_file_has_no_secret(tmp_path: Path) -> None:
    clients, token = Clients().with_token("left.arm", roles=STREAM)
    clients.write(tmp_path / "clients.json")
    text = (tmp_path / "clients.json").read_text()
    assert token.rpartition(".")[2] not in text
    assert (tmp_path / "clients.json").stat().st_mode & 0o077 == 0
    who = Clients.read(tmp_path / "clients.json").of_token(token)
    assert (who.name, who.roles) == ("left.arm", STREAM)


@pytest.mark.parametrize("token", ["", ".", "arm", "arm.", "arm.x", "leg.x", "." * 1000])
def test_what_is_no_token_is_nobodys(token: str) -> None:
    clients, _ = Clients().with_token("arm", roles=STREAM)
    with pytest.raises(Unauthenticated, match="unknown token"):
        clients.of_token(token)


def test_tokens_overlap_when_they_rotate_and_end() -> None:
    clients, first = Clients().with_token("arm", roles=STREAM)
    was = clients.of_token(first)
    clients, second = clients.with_token("arm", others_last=timedelta(hours=1))
    assert clients.of_token(first).roles == clients.of_token(second).roles == STREAM
    assert clients.knows(was)
    clients, third = clients.with_token("arm", others_last=timedelta(0))
    assert not clients.knows(was)
    for ended in (first, second):
        with pytest.raises(Unauthenticated):
            clients.of_token(ended)
    clients, _ = clients.with_token("arm")
    assert len(clients.clients["arm"].tokens) == 2, "those that have ended are forgotten"
    assert clients.knows(clients.of_token(third))


def test_a_change_of_roles_is_a_change_of_who_one_is() -> None:
    clients, token = Clients().with_token("arm", roles=STREAM)
    was, certified = clients.of_token(token), clients.of_certificate("arm")
    demoted = clients.with_client("arm", frozenset())
    assert not demoted.knows(was)
    assert not demoted.knows(certified)
    assert demoted.knows(demoted.of_certificate("somebody else"))


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "x" * 300])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Clients().with_token(name, roles=STREAM)


def test_a_file_that_makes_no_sense_is_refused_and_later_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clients.json"
    path.write_text('{"clients": {"arm": {"roles": ["god"]}}}')
    with pytest.raises(InvalidArgument, match="god"):
        ClientsFile(path)
    clients, token = Clients().with_token("arm", roles=STREAM)
    clients.write(path)
    file = ClientsFile(path)
    path.write_text("{")
    file.refresh()
    assert file.now.of_token(token).name == "arm"
    assert "stays in use" in caplog.text
    path.unlink()
    file.refresh()
    assert file.now.of_token(token).name == "arm"


def test_the_commands_make_list_rotate_and_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ["--file", str(tmp_path / "clients.json")]
    assert main(["tokens", "new", "arm", "--expires", "90d", *file]) == 0
    token = capsys.readouterr().out.strip()
    assert main(["tokens", "new", "chief", "--role", "admin", "--role", "read", "--without-token", *file]) == 0
    assert main(["tokens", "rotate", "arm", "--overlap", "0s", *file]) == 0
    again = capsys.readouterr().out.strip()
    clients = Clients.read(tmp_path / "clients.json")
    assert clients.of_token(again).roles == STREAM
    with pytest.raises(Unauthenticated):
        clients.of_token(token)
    assert main(["tokens", "list", "--json", *file]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sorted(listed["chief"]["roles"]) == ["admin", "read"]
    assert main(["tokens", "revoke", "arm", *file]) == 0
    with pytest.raises(Unauthenticated):
        Clients.read(tmp_path / "clients.json").of_token(again)
    for wrong in (["rotate", "nobody"], ["revoke", "nobody"], ["new", "arm", "--expires", "soon"]):
        assert main(["tokens", *wrong, *file]) == 1
    with pytest.raises(NotFound):
        Clients().with_token("nobody")


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    clients, token = Clients().with_token("arm", roles=STREAM)
    file = tmp_path / "clients.json"
    clients.write(file)
    file.write_bytes(BOM_UTF8 + file.read_bytes())
    assert Clients.read(file).of_token(token).name == "arm"
    file.write_text(file.read_text(encoding="utf-8-sig"), encoding="utf-16")
    with pytest.raises(InvalidArgument, match=r"clients\.json: byte 0 is not UTF-8"):
        Clients.read(file)


def test_a_name_that_no_token_could_carry_gets_none() -> None:
    with pytest.raises(InvalidArgument, match="name: 'bras-é' is not ASCII, so that its token could not be sent"):
        Clients().with_token("bras-é", roles=STREAM)
    assert "bras-é" in Clients().with_client("bras-é", STREAM).clients, "a certificate can"
