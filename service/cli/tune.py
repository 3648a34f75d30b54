"""`statestream tune`: searches settings of a training; torch is imported only by this command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from statestream.service.cli.console import err, out
from statestream.service.errors import FailedPrecondition
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.models.training.search_space import Tried
    from statestream.models.training.tuning import Tuning


def tune(
    config: Annotated[str, typer.Argument(help="A TOML file, or the name of a preset.", metavar="PRESET_OR_TOML")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Override fields of the configuration.", metavar="[SECTION.KEY=VALUE]...")
    ] = None,
    trials: Annotated[int, typer.Option(help="Most trials of the study in all.", min=1)] = 30,
    minutes: Annotated[
        float | None, typer.Option(help="Most minutes of this search.", min=0.0, show_default="no limit")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of studies; the study is written to NAME in it.")
    ] = Path("tuning"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest study NAME.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the study NAME; without it a new one becomes NAME-2.")
    ] = False,
) -> None:
    """Search settings for a training by its validation score: cell, size, learning rate, segment, augmentation.

    The first trial is the file as it is. Each other trial is a training that ends early where it is worse than the
    median of those before. The test split is not scored. The best settings are a training file, best.toml; report.html
    shows all trials. Ctrl-C keeps the study, and --resume goes on.

    [bold]Examples[/]

      statestream tune mine.toml --minutes 10

      statestream tune mine.toml training.epochs=30 --trials 50

      statestream tune mine.toml --resume --trials 100
    """
    from statestream.models.config import load_config

    settings = load_config(config, overrides or ())
    tuning = need("statestream.models.training.tuning", "train")
    command = shlex.join(["statestream", "tune", config, *(overrides or [])])
    try:
        with _progress(trials) as shown:
            found = tuning.tune(
                settings,
                folder,
                trials=trials,
                minutes=minutes,
                resume=resume,
                overwrite=overwrite,
                on_epoch=shown.on_epoch,
                on_trial=shown.on_trial,
                command=command,
            )
    except KeyboardInterrupt as interrupt:
        err.print(str(interrupt), highlight=False, markup=False, soft_wrap=True)
        raise
    _report(found)


class _Shown:
    """Progress of a search: a bar over its trials, and a line for each that ended."""

    def __init__(self, progress: Progress, trials: int) -> None:
        self._progress = progress
        self._trials = trials
        self._task = progress.add_task("tuning", total=trials, figures="")

    def on_epoch(self, trial: int, epoch: int, epochs: int, score: float) -> None:
        self._progress.update(self._task, figures=f"trial {trial}: epoch {epoch} of {epochs}, validation {score:.4g}")

    def on_trial(self, tried: Tried, tuning: Tuning) -> None:
        self._progress.update(self._task, completed=len(tuning.tried))
        out.print(_line(tried, tuning), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _progress(trials: int) -> Iterator[_Shown]:
    columns = (TextColumn("  trials"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield _Shown(progress, trials)


def _line(tried: Tried, tuning: Tuning) -> str:
    from statestream.models.training.search_space import settings_text

    best = tuning.best is not None and tuning.best.number == tried.number
    mark = "pruned" if tried.pruned else "best  " if best else "      "
    score = f"validation {tuning.score} {tried.score:<8.4g}"
    return f"trial {tried.number:<3} {mark}  {score}  {tried.seconds:4.0f} s  {settings_text(tried.settings)}"


def _report(tuning: Tuning) -> None:
    """Print what was found, and how to go on."""
    best, tried = tuning.best, tuning.tried
    if best is None:
        raise FailedPrecondition(
            f"no trial was finished; the study is in {tuning.folder}: the same command with --resume and more "
            "--minutes goes on"
        )
    pruned = sum(each.pruned for each in tried)
    given = f"; the file as it is {tried[0].score:.4g}" if tried[0].number == 1 and best.number != 1 else ""
    for line in (
        f"{len(tried)} trials, {pruned} pruned; the best is trial {best.number}: "
        f"validation {tuning.score} {best.score:.4g}{given}",
        f"all trials are in {tuning.folder / 'report.html'}; --resume goes on",
        f"next: statestream train {tuning.folder / 'best.toml'}",
    ):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
