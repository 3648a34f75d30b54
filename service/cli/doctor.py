"""`statestream doctor`: reports the machine, installed packages and missing ones."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import typer

from statestream.service.cli.console import AsJson, out, print_json, version
from statestream.service.engine import choice as engine
from statestream.service.errors import StatestreamError
from statestream.service.extras import need
from statestream.service.transports import choice as transport

_PACKAGES = ("grpcio", "protobuf", "numpy", "pydantic", "uvloop", "onnxruntime", "onnxruntime-gpu", "torch", "ncps")
_EXTRAS = {
    "train": (
        ("torch", "ncps", "lightning", "onnx", "onnxscript", "pyarrow", "matplotlib", "optuna"),
        "train and export",
    ),
}
_JETPACK_WHEELS = "the wheel for your JetPack from NVIDIA (pip's onnxruntime has no CUDA for Jetson)"
_FEW_FILES = 4096


@dataclass
class Report:
    """The machine, installed packages and what is missing."""

    statestream: str
    python: str
    system: str
    machine: str
    processor: str
    cores: int
    memory_gb: float
    jetson: str = ""
    gpu: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    providers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What is missing, each with how to install it."""
    can_serve: bool = True


def doctor(as_json: AsJson = False) -> None:
    """Report this machine, what is installed, and how to install what is missing.

    Exit code 1: this machine cannot serve.

    [bold]Examples[/]

      statestream doctor

      statestream doctor --json
    """
    report = examine()
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)
    if not report.can_serve:
        raise typer.Exit(1)


def examine(root: Path = Path("/")) -> Report:
    """Examine the machine. `root`: folder of /proc, /etc and /dev, for tests."""
    report = Report(
        statestream=version(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        processor=_processor(root),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        jetson=_jetson(root),
        gpu=_gpu(root),
        packages=_versions(),
    )
    _examine_runtime(report)
    _examine_extras(report)
    report.missing += [lack for lack in (transport.lacking(), engine.lacking()) if lack]
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < _FEW_FILES:
        report.missing.append(f"open files are limited to {files}, and each client needs one: ulimit -n 65536")
    return report


def _examine_runtime(report: Report) -> None:
    wheels = _JETPACK_WHEELS if report.jetson else "pip install 'statestream[gpu]'"
    if "onnxruntime" in report.packages and "onnxruntime-gpu" in report.packages:
        report.missing.append(
            "onnxruntime and onnxruntime-gpu overwrite each other: pip uninstall both, then install one of them"
        )
    try:
        report.providers = need("statestream.service.engine.providers", "cpu").installed_providers()
    except StatestreamError as error:
        report.can_serve = False
        report.missing.append(f"to serve: {error.text}")
        return
    if (report.gpu or report.jetson) and "cuda" not in report.providers:
        report.missing.append(f"this machine has a GPU that onnxruntime cannot use: {wheels}")


def _examine_extras(report: Report) -> None:
    for extra, (modules, purpose) in _EXTRAS.items():
        absent = [name for name in modules if find_spec(name) is None]
        if absent:
            report.missing.append(f"to {purpose}: pip install 'statestream[{extra}]' (no {', '.join(absent)})")


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _jetson(root: Path) -> str:
    """Name of a Jetson board and its L4T release.

    Empty: the machine is no Jetson.
    """
    board = _read(root / "proc/device-tree/model").strip("\0 \n")
    release = _read(root / "etc/nv_tegra_release").splitlines()
    if not release and not any(word in board for word in ("Jetson", "Orin", "Xavier")):
        return ""
    return " ".join([board, release[0].partition(",")[0].lstrip("# ") if release else ""]).strip()


def _gpu(root: Path) -> str:
    """Name of the first NVIDIA GPU; empty: there is none."""
    cards = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    for line in _read(cards[0]).splitlines() if cards else ():
        if line.startswith("Model:"):
            return line.partition(":")[2].strip()
    return "NVIDIA" if (root / "dev/nvidia0").exists() else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _print(report: Report) -> None:
    facts = {
        "statestream": report.statestream,
        "python": report.python,
        "system": f"{report.system}, {report.machine}",
        "processor": f"{report.processor}, {report.cores} cores, {report.memory_gb:g} GB",
        "jetson": report.jetson or "no",
        "gpu": report.gpu or "no",
        "providers": ", ".join(report.providers) or "none",
        **report.packages,
    }
    for name, value in facts.items():
        out.print(f"{name:16} {value}", highlight=False, markup=False)
    for line in report.missing:
        out.print(f"[yellow]missing[/] {line.replace('[', chr(92) + '[')}", highlight=False)
    if not report.missing:
        out.print("[green]nothing is missing[/]")
