"""deploy/install.sh in a clean Debian with systemd as process 1: installs, streams, restarts, upgrades, uninstalls.

Then the steps of deploy/docker/Dockerfile, run one by one in another clean Debian. `python -m tests.deploy.install`
"""

from __future__ import annotations

import re
import sys

from examples.server import free_port
from statestream.service.client import connect
from tests.bench.pages import put_output
from tests.deploy.image import replay
from tests.deploy.robot import Robot
from tests.deploy.root import SOURCES, Missing, Root, booted, contained, make
from tests.deploy.said import Said
from tests.support.bundles import write_leaky

INSTALL = f"{SOURCES}/deploy/install.sh"
CONFIG, STATE = "etc/statestream/server.toml", "var/lib/statestream"
UNIT = "/etc/systemd/system/statestream.service"
ROWS = 200


def main() -> None:
    """Both, into docs/deploy.md."""
    said = Said()
    try:
        on_a_device(said)
        replay(said)
    except Missing as error:
        sys.exit(f"cannot be tried here: {error}")
    put_output("deploy.md", "install", said.lines)


def on_a_device(say: Said) -> None:
    """By hand, as docs/deploy.md says."""
    path = make("device", "ca-certificates", "systemd", "dbus")
    # What install.sh would fetch itself, and would leave: Debian's Python, and a compiler.
    root = contained(path)
    root.run("apt-get", "update", "-q")
    root.run("apt-get", "install", "-qy", "--no-install-recommends", *_FETCHED, env=_QUIET)
    with booted(path) as machine:
        before = machine.files()
        address = _install(machine, say)
        with connect(address) as client, client.stream() as stream:
            robot = Robot(stream)
            _serves(machine, robot, say)
            _upgrades(machine, robot, say)
        _uninstalls(machine, before, say)


_FETCHED = ("python3-venv", "g++", "libnghttp2-dev", "python3-dev")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def _install(machine: Root, say: Said) -> str:
    machine.run(INSTALL)
    address = f"127.0.0.1:{free_port()}"
    config = machine.path / CONFIG
    config.write_text(re.sub(r'(?m)^address = ".*"', f'address = "{address}"', config.read_text()))
    config.write_text(re.sub(r'(?m)^metrics_address = ".*"', 'metrics_address = ""', config.read_text()))
    write_leaky(machine.path / STATE / "models")
    say(f"install.sh: environment of {machine.megabytes('opt/statestream'):.0f} MB, user, folders, settings, unit")
    problems = machine.run("systemd-analyze", "verify", UNIT).strip()
    assert not problems, problems
    say("systemd-analyze verify: nothing to say")
    machine.run("systemctl", "enable", "--now", "--quiet", "statestream")
    say(f"systemctl enable --now: active after {_ready_s(machine):.1f} s")
    exposure = machine.run("systemd-analyze", "security", "--no-pager", "statestream").strip().splitlines()[-1]
    say(f"systemd-analyze security: {exposure.removeprefix('→ ').strip()}")
    return address


def _ready_s(machine: Root) -> float:
    """From the start of the process until it said READY."""
    shown = _properties(machine, "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    return (int(shown["ActiveEnterTimestampMonotonic"]) - int(shown["ExecMainStartTimestampMonotonic"])) / 1e6


def _properties(machine: Root, *names: str) -> dict[str, str]:
    said = machine.run("systemctl", "show", "statestream", f"--property={','.join(names)}")
    return dict(line.split("=", 1) for line in said.strip().splitlines())


def _serves(machine: Root, robot: Robot, say: Said) -> None:
    robot.step(ROWS)
    pid = int(_properties(machine, "MainPID")["MainPID"])
    owner = machine.run("stat", "--format=%U", f"/proc/{pid}").strip()
    assert owner == "statestream", owner
    say(f"streamed {robot.rows} rows, each as computed; the server runs as '{owner}'")
    machine.run("systemctl", "restart", "statestream")
    robot.step(ROWS)
    say(f"systemctl restart: the session went on, {robot.rows} rows")
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "statestream")
    robot.step(ROWS)
    restarts = int(_properties(machine, "NRestarts")["NRestarts"])
    assert restarts == 1, restarts
    say(f"kill -9: systemd restarted it, the session went on, {robot.rows} rows")


def _upgrades(machine: Root, robot: Robot, say: Said) -> None:
    settings = (machine.path / CONFIG).read_text()
    machine.run(INSTALL)
    machine.run("systemctl", "restart", "statestream")
    robot.step(ROWS)
    assert (machine.path / CONFIG).read_text() == settings
    say(f"install.sh again, restart: settings, models and session are as they were, {robot.rows} rows")


def _uninstalls(machine: Root, before: set[str], say: Said) -> None:
    machine.run(INSTALL, "--uninstall")
    assert (machine.path / STATE / "sessions.db").exists()
    assert not (machine.path / "opt/statestream").exists()
    say("install.sh --uninstall: sessions, models and settings stay")
    machine.run(INSTALL, "--uninstall", "--purge")
    left = {path for path in machine.files() - before if not path.startswith(("var/log", "var/lib/systemd"))}
    assert not left, sorted(left)
    assert not before - machine.files(), before - machine.files()
    assert "statestream" not in (machine.path / "etc/passwd").read_text()
    say("install.sh --uninstall --purge: no file, user or group is left")


if __name__ == "__main__":
    main()
