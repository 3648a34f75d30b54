"""What the doctor makes of machines that this one is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from statestream.service.cli import doctor, main
from statestream.service.errors import FailedPrecondition


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_jetson_is_known_and_told_where_its_wheel_is(tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    write(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1\n")
    report = doctor.examine(tmp_path)
    assert report.jetson == "NVIDIA Jetson Orin Nano Developer Kit R36 (release)"
    assert any("JetPack" in line for line in report.missing) or "cuda" in report.providers


def test_a_gpu_and_a_processor(tmp_path: Path) -> None:
    write(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t NVIDIA T4\nIRQ: 3\n")
    write(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    report = doctor.examine(tmp_path)
    assert (report.gpu, report.processor, report.jetson) == ("NVIDIA T4", "Some CPU @ 2 GHz", "")


def test_without_onnxruntime_it_cannot_serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> list[str]:
        raise FailedPrecondition("onnxruntime is not installed: pip install 'statestream[cpu]'")

    monkeypatch.setattr("statestream.service.engine.providers.installed_providers", absent)
    assert main(["doctor"]) == 1
    assert "missing to serve: onnxruntime is not installed: pip install 'statestream[cpu]'" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["can_serve"] is False


@pytest.mark.parametrize("part", ["transport", "engine"])
def test_a_missing_transport_or_engine_is_named(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(getattr(doctor, part), "lacking", lambda: f"the native {part} was not built")
    report = doctor.examine()
    assert f"the native {part} was not built" in report.missing
    assert report.can_serve


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.service.cli.doctor.find_spec", lambda name: None if name == "torch" else True)
    assert "to train and export: pip install 'statestream[train]' (no torch)" in doctor.examine().missing
