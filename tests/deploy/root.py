"""Clean Debian roots, made by debootstrap from this machine's own mirror, and ways to run commands in them.

Nothing is installed on this machine: debootstrap and systemd-container must be there, for another architecture also
qemu-user-static, and proot unless the kernel runs its programs by binfmt. All of it needs to be root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
ROOTS = ROOT / "build/roots"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SOURCES = "/src"
"""Where a root has the checkout."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_S = 120.0


class Missing(RuntimeError):
    """This machine cannot do it; the text says what it lacks."""


def need(*commands: str) -> None:
    """Raise Missing unless this is root and has the commands."""
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        raise Missing(f"not installed: {', '.join(absent)} (apt-get install debootstrap systemd-container …)")
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
    def running(self, *command: str, env: dict[str, str] | None = None, user: str = "0:0") -> Iterator[None]:
        """The same in the background, ended by SIGTERM."""
        process = subprocess.Popen(self._words(command, env or {}, user), stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
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


def build_wheel(checkout: Path, into: Path) -> Path:
    """The wheel of a checkout, built in a copy, since builds leave things behind."""
    with tempfile.TemporaryDirectory() as name:
        copy_checkout(checkout, Path(name) / "copy")
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(into), str(Path(name) / "copy")]
        subprocess.run(command, check=True, capture_output=True)
    (wheel,) = into.glob("*.whl")
    return wheel


@contextmanager
def booted(path: Path) -> Iterator[Root]:
    """The root as a machine of its own, with systemd as process 1, on this machine's network."""
    with (path.parent / f"{path.name}.console").open("wb") as console:
        machine = subprocess.Popen(
            [*_nspawn(path), "--boot", "--console=read-only"], stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    try:
        first = _child(machine)
        root = Root(
            path,
            ("nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wdns=/"),
        )
        _until_up(root, machine)
        yield root
    finally:
        machine.terminate()
        machine.wait(_BOOT_S)


def make(name: str, *packages: str, arch: str = "amd64") -> Path:
    """A new root of the Debian that this machine's apt knows, with the checkout and this machine's pip configuration.

    What debootstrap made is kept in build/roots and copied, since on an emulated processor it takes long.
    """
    need("debootstrap")
    kept = ROOTS / f"debian-{arch}-{'-'.join(packages)}"
    if not kept.is_dir():
        _debootstrap(kept, arch, packages)
    path = ROOTS / name
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(kept), str(path)], check=True)
    copy_checkout(ROOT, path / SOURCES.strip("/"))
    _configure_pip(path)
    return path


def _debootstrap(path: Path, arch: str, packages: Sequence[str]) -> None:
    site, suite = mirror()
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    native = arch == subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()
    stage = [] if native else ["--foreign"]
    what = [f"--arch={arch}", "--variant=minbase", f"--include={','.join(packages)}"]
    subprocess.run(["debootstrap", *stage, *what, suite, str(partial), site], check=True, stdout=subprocess.DEVNULL)
    if not native:
        proc = partial / "proc"
        if proc.is_symlink():
            proc.unlink()
        proc.mkdir(exist_ok=True)
        emulated(partial).run("/debootstrap/debootstrap", "--second-stage", env={"DEBOOTSTRAP_DIR": "/debootstrap"})
    partial.rename(path)


def emulated(path: Path) -> Root:
    """A root of aarch64, its commands on an emulated processor: by binfmt where the kernel has it, else by proot."""
    if Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        return contained(path)
    need("qemu-aarch64-static", "proot")
    binds = ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts", *map(str, _pip_paths())]
    bound = [word for bind in binds for word in ("-b", bind)]
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
    return ("systemd-nspawn", f"--directory={path}", *flags, *(f"--bind-ro={bind}" for bind in _pip_paths()))


def _child(machine: subprocess.Popen[bytes]) -> int:
    """Process 1 of the container, once it is there."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
    for _ in _moments(_BOOT_S):
        if machine.poll() is not None:
            break
        if found := children.read_text().split():
            return int(found[0])
    raise Missing("systemd-nspawn cannot start a container here")


def _until_up(root: Root, machine: subprocess.Popen[bytes]) -> None:
    for _ in _moments(_BOOT_S):
        if machine.poll() is not None:
            break
        done = subprocess.run([*root.enter, "/bin/systemctl", "is-system-running"], capture_output=True, text=True)
        if done.stdout.strip() in ("running", "degraded"):
            return
    raise Missing(f"systemd does not come up in a container here; see {root.path}.console")


def _moments(limit_s: float) -> Iterator[None]:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        yield
        time.sleep(0.1)


def copy_checkout(checkout: Path, into: Path) -> None:
    """What git would take of a checkout."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (checkout / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, into / name)


def _pip_settings() -> dict[str, str]:
    """What pip is told on this machine, by file or environment."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    pairs = (line.split("=", 1) for line in said.stdout.splitlines())
    return {key.rpartition(".")[2]: value.strip("'\"") for key, value in pairs}


def _pip_paths() -> list[Path]:
    """Files and folders of this machine that its pip reads."""
    words = [CERTIFICATES.as_posix(), *(word for value in _pip_settings().values() for word in value.split())]
    paths = [Path(unquote(urlsplit(word).path)) for word in words if word.startswith(("/", "file://"))]
    tops = {path.parent if path.name == "simple" else path for path in paths if path.exists()}
    return sorted(tops)


def _configure_pip(path: Path) -> None:
    lines = [f"{key} = {value}\n" for key, value in _pip_settings().items()]
    (path / "etc/pip.conf").write_text("[global]\n" + "".join(lines))
    for bound in _pip_paths():
        inside = path / bound.relative_to("/")
        if bound.is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        elif not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
