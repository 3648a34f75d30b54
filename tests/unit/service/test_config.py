"""What a server is told: file, environment and flags, in that order; and the page that lists it all."""

from __future__ import annotations

import json
import logging
from codecs import BOM_UTF8
from pathlib import Path

import pytest

from statestream.service import config
from statestream.service.cli import main
from statestream.service.cli.reference import reference
from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument
from statestream.service.server import log_format

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ServerConfig.model_fields:
        monkeypatch.delenv(f"STATESTREAM_{name.upper()}", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text('workers = 2\nthreads = 2\nmax_batch = 2\nproviders = ["cpu"]\n')
    return path


def test_flags_win_over_the_environment_and_that_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATESTREAM_THREADS", "3")
    monkeypatch.setenv("STATESTREAM_MAX_BATCH", "3")
    loaded = ServerConfig.load(file, max_batch=4, store=None)
    assert (loaded.workers, loaded.threads, loaded.max_batch) == (2, 3, 4)
    assert loaded.store == "memory"


def test_lists_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATESTREAM_PROVIDERS", "xnnpack, cpu")
    monkeypatch.setenv("STATESTREAM_MODELS", "wrist:3")
    loaded = ServerConfig.load()
    assert (loaded.providers, loaded.models) == (("xnnpack", "cpu"), ("wrist:3",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 0", "workers: Input should be greater than 0 (got 0)"),
        ("worker = 1", "worker: there is no such field; did you mean 'workers'? (got 1)"),
        ('providers = ["tpu"]', "got 'tpu'"),
        ("workers =", "server.toml: Invalid value"),
    ],
)
def test_a_file_that_makes_no_sense_names_what_does_not(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidArgument) as error:
        ServerConfig.load(file)
    assert words in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_file(file: Path) -> None:
    file.write_bytes(BOM_UTF8 + file.read_bytes())
    assert ServerConfig.load(file).workers == 2


def test_a_file_of_another_encoding_is_named(file: Path) -> None:
    file.write_text("workers = 2\n", encoding="utf-16")
    with pytest.raises(InvalidArgument, match=r"server\.toml: byte 0 is not UTF-8; save the file as UTF-8"):
        ServerConfig.load(file)


def test_a_file_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = tmp_path / "server.toml"
    monkeypatch.setattr(config, "DEFAULT_FILE", usual)
    assert main(["serve", "--print-config"]) == 0, "there is none"
    capsys.readouterr()
    usual.mkdir()  # what is no file cannot be read by root either
    for command in (["serve", "--print-config"], ["warmup"], ["serve", "--config", str(tmp_path / "other.toml")]):
        assert main(command) == 1
        assert f"cannot read {tmp_path}" in capsys.readouterr().err.replace("\n", "")


def test_what_print_config_says_is_a_file_of_the_same_settings(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATESTREAM_RECORD", 'a "quoted"\\path')
    monkeypatch.setenv("STATESTREAM_MODELS", "a,b:2")
    arguments = ["serve", "models", "--config", str(file), "--idle-ttl", "5"]
    assert main([*arguments, "--print-config"]) == 0
    again = tmp_path / "again.toml"
    again.write_text(capsys.readouterr().out)
    wanted = ServerConfig.load(file, repository="models", idle_ttl_s=5, models=("a", "b:2"))
    monkeypatch.delenv("STATESTREAM_RECORD")
    monkeypatch.delenv("STATESTREAM_MODELS")
    assert ServerConfig.load(again).model_dump() == wanted.model_dump()
    assert wanted.record == Path('a "quoted"\\path')


def test_every_setting_is_in_the_reference_and_says_what_it_is() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == reference(), "run `make configuration`"
    assert not [name for name, field in ServerConfig.model_fields.items() if not field.description]


def test_json_logs_are_an_object_a_line() -> None:
    record = logging.LogRecord("statestream.x", logging.WARNING, __file__, 1, "two\nlines of %s", ("words",), None)
    record.client = "robot"
    line = log_format.JsonFormatter("worker 1").format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "warning",
        "logger": "statestream.x",
        "message": "two\nlines of words",
        "who": "worker 1",
        "client": "robot",
    }
