"""A process that reads harmed files, with limits of memory and time; when it dies, it is known in which library.

parent                                child
read(seed, path)   ── (k, path) ──▶   attempt
                   ◀── Outcome ───
                   ◀── end of file    died: its stack is in a file
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import re
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from statestream.models.data import formats
from tests.fuzz_files.outcomes import DIED, FAULT, READ, SLOW, Outcome
from tests.fuzz_files.reading import attempt
from tests.fuzz_files.seeds import SEEDS, Seed

MEMORY = 1 << 30
"""Address space that a child may take beyond what it has after its imports and one file of each seed, bytes."""
SECONDS = 20.0
READS = 250
"""Files that one child reads: what libraries keep does not add up."""
_OURS = (str(Path(formats.__file__).parents[1]), str(Path(__file__).parent))
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')


class Child:
    """A process for `READS` files; ends with `close`, or by itself.

    Args:
        seeds: paths of all seeds, by name.
    """

    def __init__(self, folder: Path, seeds: dict[str, Path], seconds: float = SECONDS) -> None:
        self._stack = folder / "stack.txt"
        self._reads = 0
        spawning = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawning.Pipe()
        arguments = (theirs, self._stack, folder / "cache", list(seeds.values()), seconds)
        self._process = spawning.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        if unread := self._pipe.recv():
            raise AssertionError(f"a seed is not read: {unread}")

    @property
    def usable(self) -> bool:
        """Whether it lives and has read fewer than `READS` files."""
        return self._reads < READS and self._process.is_alive()

    def read(self, seed: Seed, path: Path) -> Outcome:
        """Read a file; an outcome of the kinds `DIED` and `SLOW` is of the library that its text names."""
        self._reads += 1
        with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
            self._pipe.send((SEEDS.index(seed), path))
            return self._pipe.recv()
        self._process.join()
        return _death(self._process.exitcode or 0, self._stack.read_text(errors="replace"))

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _death(code: int, stack: str) -> Outcome:
    """How a child ended, by the innermost call of Python on its stack. A loop without end in our code is our fault."""
    frame = _FRAME.search(stack)
    file, line, function = frame.groups() if frame else ("", "?", "?")
    where = f"{file.rpartition('site-packages/')[2]}:{line} in {function}"
    if "Timeout" in stack:
        return Outcome(FAULT if any(part in file for part in _OURS) else SLOW, f"no end at {where}")
    return Outcome(DIED, f"{signal.Signals(-code).name if code < 0 else f'exit code {code}'} at {where}")


def _serve(pipe: Connection, stack: Path, cache: Path, paths: list[Path], seconds: float) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Libraries in C write there what they make of damage.
    with stack.open("w") as file:
        faulthandler.enable(file)
        outcomes = [(seed.name, attempt(seed, path)) for seed, path in zip(SEEDS, paths, strict=True)]
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY,) * 2)
        pipe.send([each for each in outcomes if each[1].kind != READ])
        with contextlib.suppress(EOFError):
            while True:
                number, path = pipe.recv()
                faulthandler.dump_traceback_later(seconds, exit=True, file=file)
                outcome = attempt(SEEDS[number], path)
                faulthandler.cancel_dump_traceback_later()
                pipe.send(outcome)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
