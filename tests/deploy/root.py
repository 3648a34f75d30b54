"""Clean Debian roots, made by debootstrap from this machine's own mirror, and ways to run commands in them.

Nothing is installed on this machine: debootstrap and systemd-container must be there, for another architecture also
qemu-user-static and proot. All of it needs to be root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy import pip_here
from tests.deploy.checkout import ROOT, copy_checkout

ROOTS = ROOT / "build/roots"
SOURCES = "/src"
"""Where a root has the checkout."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_S = 600.0
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
"""Of a Raspberry Pi 4. qemu shows this machine's, from which ONNX Runtime's aarch64 build cannot tell where it is."""
_PACKAGES = "debootstrap systemd-container qemu-user-static proot"


class Missing(RuntimeError):
    """This machine cannot do it; the text says what it lacks."""


def need(*commands: str) -> None:
    """Raise Missing unless this is root and has the commands."""
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        raise Missing(f"not installed: {', '.join(absent)} (apt-get install {_PACKAGES})")
    if os.geteuid() != 0:
        raise Missing("only root can make a root file system")


@dataclass(frozen=True)
class Root:
    """A root file system, and what goes before a command that shall run in it."""

    path: Path
    enter: tuple[str, ...]

    def run(self, *command: str, env: dict[str, str] | None = None, user: str = "0:0") -> str:
        """What the command says, stdout and stderr together; CalledProcessError where it fails, after its words."""
        words = self._words(command, env or {}, user)
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr)
            done.check_returncode()
        return done.stdout + done.stderr

    @contextmanager
    def running(
        self, *command: str, env: dict[str, str] | None = None, user: str = "0:0"
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The same in the background, ended by SIGTERM, which proot would keep to itself."""
        words = self._words(command, env or {}, user)
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(_BOOT_S)

    def _words(self, command: Sequence[str], env: Mapping[str, str], user: str) -> list[str]:
        uid, _, gid = user.partition(":")
        become = [] if uid == "0" else ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        environment = {"PATH": _PATH, "HOME": "/root", **env}
        return [*self.enter, "env", "-i", *(f"{k}={v}" for k, v in environment.items()), *become, *command]

    def files(self) -> set[str]:
        """Every file and folder, but those of the checkout and of what only runs."""
        aside = {"proc", "sys", "dev", "run", "tmp", SOURCES.strip("/")}
        return {
            str(path.relative_to(self.path))
            for top in self.path.iterdir()
            if top.name not in aside and not top.is_symlink()
            for path in (top, *top.rglob("*"))
        }

    def megabytes(self, folder: str = "") -> float:
        """What a folder of it takes on the disk."""
        return megabytes(self.path / folder.strip("/"))


def contained(path: Path, *flags: str) -> Root:
    """A root of this machine's architecture, its commands in a container of their own; `flags` of systemd-nspawn."""
    return Root(path, (*_nspawn(path), "--pipe", *flags))


def megabytes(folder: Path) -> float:
    """What a folder takes on the disk."""
    done = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True)
    return int(done.stdout.split()[0]) / 1e6


@contextmanager
def booted(path: Path) -> Iterator[Root]:
    """The root as a machine of its own, with systemd as process 1, on this machine's network."""
    with (path.parent / f"{path.name}.console").open("wb") as console:
        machine = subprocess.Popen(
            [*_nspawn(path), "--boot", "--console=read-only"], stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    try:
        root = _until_up(path, machine)
        yield root
    finally:
        machine.terminate()
        machine.wait(_BOOT_S)


def make(name: str, *packages: str, arch: str = "") -> Path:
    """A new root of the Debian that this machine's apt knows, with the checkout and this machine's pip configuration.

    Its architecture is this machine's, or `arch`: then its packages are unpacked and not configured. What debootstrap
    made is kept in build/roots and copied.
    """
    need("debootstrap")
    arch = arch or _architecture()
    kept = ROOTS / f"debian-{arch}-{'-'.join(packages)}"
    if not kept.is_dir():
        _debootstrap(kept, arch, packages)
    path = ROOTS / name
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(kept), str(path)], check=True)
    copy_checkout(ROOT, path / SOURCES.strip("/"))
    pip_here.configure(path)
    return path


def _debootstrap(path: Path, arch: str, packages: Sequence[str]) -> None:
    site, suite = mirror()
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    native = arch == _architecture()
    stage = [] if native else ["--foreign"]
    what = [f"--arch={arch}", "--variant=minbase", f"--include={','.join(packages)}"]
    subprocess.run(["debootstrap", *stage, *what, suite, str(partial), site], check=True, stdout=subprocess.DEVNULL)
    if not native:
        _unpack(partial)
    partial.rename(path)


def _unpack(root: Path) -> None:
    """Put in place what a first stage has fetched. Nothing is configured: on an emulated processor that takes long."""
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as files:
            into = ["tar", "--extract", "--keep-directory-symlink", f"--directory={root}"]
            subprocess.run(into, stdin=files.stdout, check=True)
        package.unlink()
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
    (root / "usr/local/bin").mkdir(parents=True)
    # A link to this machine's, which nothing in the root could follow.
    (root / "proc").unlink()
    (root / "proc").mkdir()


def _architecture() -> str:
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def emulated(path: Path, *shared: Path) -> Root:
    """A root of aarch64, its commands on an emulated processor: by proot, which leaves the kernel alone.

    `shared`: folders of this machine that it has too, in the same place.
    """
    need("qemu-aarch64-static", "proot")
    cpuinfo = ROOTS / "cpuinfo"
    cpuinfo.write_text(_CPUINFO)
    binds = ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts", *map(str, pip_here.paths()), *map(str, shared)]
    bound = [word for bind in [*binds, f"{cpuinfo}:/proc/cpuinfo"] for word in ("-b", bind)]
    return Root(path, ("proot", "-q", "qemu-aarch64-static", "-0", "-r", str(path), "-w", "/", *bound))


def mirror() -> tuple[str, str]:
    """Where this machine's apt gets Debian from, and the name of the release."""
    wanted = ["$(SITE) $(CODENAME)", "Created-By: Packages", "Label: Debian", "Component: main"]
    said = subprocess.run(["apt-get", "indextargets", "--format", *wanted], capture_output=True, text=True, check=True)
    if not said.stdout:
        raise Missing("this machine's apt knows no Debian")
    # The release itself has the shortest name, before its updates and its security.
    site, suite = min((line.split() for line in said.stdout.splitlines()), key=lambda words: len(words[1]))
    return site, suite


def _nspawn(path: Path) -> tuple[str, ...]:
    need("systemd-nspawn")
    flags = ("--quiet", "--register=no", "--keep-unit", "--resolv-conf=replace-host")
    return ("systemd-nspawn", f"--directory={path}", *flags, *(f"--bind-ro={bind}" for bind in pip_here.paths()))


def _until_up(path: Path, machine: subprocess.Popen[bytes]) -> Root:
    """The machine, once its systemd is done with starting."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
    spaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wdns=/")
    for _ in _moments(_BOOT_S):
        if machine.poll() is not None:
            break
        # The first children of systemd-nspawn only prepare the one that becomes process 1.
        for child in children.read_text().split()[:1]:
            root = Root(path, ("nsenter", f"--target={child}", *spaces))
            done = subprocess.run([*root.enter, "/bin/systemctl", "is-system-running"], capture_output=True, text=True)
            if done.stdout.strip() in ("running", "degraded"):
                return root
    raise Missing(f"systemd does not come up in a container here; see {path}.console")


def _moments(limit_s: float) -> Iterator[None]:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        yield
        time.sleep(0.1)
