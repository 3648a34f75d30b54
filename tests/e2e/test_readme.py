"""What the README shows, runs: its client, its configuration, its commands."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from statestream.models.bundle import read_manifest
from statestream.models.config import load_config
from statestream.models.data.message_fields import MessageField
from statestream.models.spec import InputSpec, OutputSpec, TimeSpec
from statestream.service.cli.app import app
from tests.support.bundles import write_zeros

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [README, *(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))]
BUNDLES = (ROOT / "docs/bundles.md").read_text()
ROBOTS = (ROOT / "docs/robots.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}(?: title=.*?)?\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Every `statestream …` line of the indented blocks, without its comment."""
    lines = re.findall(r"^    (statestream .*)$", text.replace("\\\n", ""), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


async def test_the_client_of_the_readme_runs(start: Callable[..., Any], tmp_path: Path) -> None:
    write_zeros(
        tmp_path,
        "wrist",
        InputSpec(name="x", shape=(6,)),
        OutputSpec(name="y", shape=(7,), labels=tuple("abcdefg"), std=(1.0,)),
        TimeSpec.around(0.02),
    )
    server = await start(repository=tmp_path)
    (code,) = blocks(README, "python")
    code = code.replace("127.0.0.1:50051", f"127.0.0.1:{server.port}")
    # In a process of its own, as a reader would run it: it blocks, and this one serves. Twice, with one session.
    for dt_s in (r"0\.0", r"[\d.e-]+"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        assert re.match(rf"a APPLIED {dt_s}", out.decode())
        assert re.search(r"\(64, 7\) \{\S*APPLIED\S* \d>: 64\}", out.decode()), out.decode()
        assert not err.decode()


def test_the_configuration_of_the_readme_is_one(tmp_path: Path) -> None:
    (text,) = blocks(README, "toml")
    (tmp_path / "gait.toml").write_text(text)
    config = load_config(tmp_path / "gait.toml", ["training.epochs=40"])
    assert (config.name, config.training.epochs, config.data.group) == ("gait", 40, "person")


@pytest.mark.parametrize("text", [text for text in blocks(ROBOTS, "toml") if "[data]" in text])
def test_the_configurations_of_the_robots_page_are_some(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    data = load_config(tmp_path / "mine.toml").data
    assert all(MessageField.parse(name).topic for name in (*data.features, *data.target))


@pytest.mark.parametrize("command", commands("".join(PAGES)), ids=" ".join)
def test_the_commands_of_the_pages_have_the_options_they_use(command: list[str]) -> None:
    names, known = [], typer.main.get_command(app)
    for word in command:
        if word not in getattr(known, "commands", {}):
            break
        names.append(word)
        known = known.commands[word]
    assert names
    options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for option in (word for word in command if word.startswith("--")):
        assert option in options, f"{' '.join(names)} has no {option}"


def test_the_manifest_of_the_bundle_page_is_one(tmp_path: Path) -> None:
    text, picture = blocks(BUNDLES, "json")
    (tmp_path / "manifest.json").write_text(text)
    assert read_manifest(tmp_path).ref == "mine:1"
    assert InputSpec.model_validate_json(picture).wire_bytes == 160 * 120 * 3


def test_every_file_and_target_that_the_readme_names_exists() -> None:
    for name in re.findall(r"\]\(([a-zA-Z_./]+)\)|`((?:tests|docs|examples)/[a-zA-Z_./]+)`", README):
        assert (ROOT / (name[0] or name[1])).exists(), name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"^    make ([a-z-]+)", README, re.MULTILINE):
        assert target in targets
