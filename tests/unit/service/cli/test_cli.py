"""The command line without a server: help, usage, errors."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from statestream.service.cli import main
from statestream.service.cli.app import app
from statestream.service.cli.console import name_and_version
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.extras import need
from statestream.service.playback.play import rate_of

COMMANDS = [
    ["init"],
    ["train"],
    ["data", "columns"],
    ["data", "list"],
    ["data", "get"],
    ["evaluate"],
    ["export"],
    ["serve"],
    ["stream"],
    ["models", "list"],
    ["models", "show"],
    ["models", "load"],
    ["models", "promote"],
    ["models", "rollback"],
    ["models", "unload"],
    ["replay"],
    ["sessions", "list"],
    ["sessions", "show"],
    ["sessions", "reset"],
    ["sessions", "close"],
    ["certs"],
    ["tokens", "new"],
    ["tokens", "rotate"],
    ["tokens", "revoke"],
    ["tokens", "list"],
    ["bundle", "check"],
    ["bundle", "golden"],
    ["doctor"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"statestream {' '.join(command)}" in " ".join(shown.split())


def parameters(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every argument and option of a command and of the commands in it."""
    yield from ((f"{path} {parameter.name}", parameter) for parameter in command.params)
    for name, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{path} {name}")


def test_every_option_has_its_name_and_help() -> None:
    """On Python 3.10 `get_type_hints` hides both where the default is None."""
    every = dict(parameters(typer.main.get_command(app)))
    assert len(every) > 150
    assert [name for name, parameter in every.items() if not parameter.help] == []
    assert every[" stream predictions"].opts == ["--out"]
    assert every[" stream target_column"].opts == ["--target-column"]
    assert every[" serve models"].opts == ["--model"]
    assert every[" data list as_json"].opts == ["--json"]


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["stream"], ["stream", "file.csv"], ["models", "show"], ["doctor", "--colour"]],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["stream", "f.csv", "--model", "m", "--rate", "fast"], "--rate: 'fast', expected real, max, or a multiple"),
        (["stream", "f.csv", "--model", "m", "--time-unit", "min"], "--time-unit: 'min', expected ns, us, ms or s"),
        (["models", "unload", "m:1", "--wait", "--move"], "--wait --move: use one of them, not both"),
        (["models", "show", "m:x"], "model: 'm:x', expected NAME or NAME:VERSION"),
        (["models", "list", "--target", "127.0.0.1:1"], "cannot reach 127.0.0.1:1"),
        (["serve", "--config", "nowhere.toml"], "config: cannot read nowhere.toml: No such file or directory"),
        (["serve", "--threads", "0"], "threads"),
        (["bundle", "check", "nowhere"], "nowhere: cannot read manifest.json: No such file or directory"),
        (["bundle", "golden", "nowhere"], "nowhere: cannot read manifest.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_line_and_1(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert text in said
    assert said.count("\n") == 1


def test_a_fault_of_our_own_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("by [zero]")

    monkeypatch.setattr("statestream.service.cli.doctor.examine", fail)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().err
    assert said == "error: ZeroDivisionError: by [zero] (a bug in statestream; STATESTREAM_DEBUG=1 shows where)\n"
    monkeypatch.setenv("STATESTREAM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("statestream.service.cli.doctor.examine", interrupt)
    assert main(["doctor"]) == 130


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_torch(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    for module in [name for name in sys.modules if name.startswith("statestream.models.training.network")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(FailedPrecondition, match=r"torch is not installed: pip install 'statestream\[train\]'"):
        need("statestream.models.training.network", "train")


def test_the_command_line_imports_neither_torch_nor_grpc_nor_onnxruntime() -> None:
    code = "import sys, statestream.service.cli; print(*{'torch', 'grpc', 'onnxruntime', 'onnx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_rates() -> None:
    assert [rate_of(text) for text in ("real", "max", "2x", "0.5", "20x")] == [1.0, float("inf"), 2.0, 0.5, 20.0]
    for bad in ("0x", "-1x", "nanx", "infx", ""):
        with pytest.raises(InvalidArgument, match="--rate"):
            rate_of(bad)


def test_names_and_versions() -> None:
    assert name_and_version("wrist") == ("wrist", 0)
    assert name_and_version("wrist:3") == ("wrist", 3)
    for bad in (":3", "wrist:", ""):
        with pytest.raises(InvalidArgument, match="expected NAME or NAME:VERSION"):
            name_and_version(bad)
