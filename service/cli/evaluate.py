"""`statestream evaluate`: compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from statestream.service.cli.console import out, working
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.models.evaluation.evaluate import Line


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Runs tested on the same recordings.", metavar="RUN...")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the CSV files and the plots.")] = Path("evaluation"),
) -> None:
    """Compare runs on their test split: score, size, state, and the cost of a step in ONNX Runtime.

    Runs that differ only in their seed are one model; its score is mean ± standard deviation. A small untrained
    Transformer with a KV cache shows the cost of a step and a session without a recurrent state.

    [bold]Examples[/]

      statestream evaluate runs/gait runs/gait-gru

      statestream evaluate runs/gait-seed0 runs/gait-seed1 runs/gait-gru --out report
    """
    module = need("statestream.models.evaluation.evaluate", "train")
    load = need("statestream.models.training.runs", "train").load_checkpoint
    with working("measuring what a step costs, a few seconds a model"):
        lines = module.report([load(run) for run in runs], folder)
    out.print(_table(lines))
    out.print(f"CSV and plots are in {folder}", highlight=False, markup=False)


def _table(lines: list[Line]) -> Table:
    names = list(lines[0].scores)
    table = Table("model", "runs", *names, "parameters", "state", "µs at 1", "µs at 64", box=None)
    for line in lines:
        table.add_row(
            line.model,
            str(line.runs),
            *(_score(line, name) for name in names),
            f"{line.parameters:,}",
            f"{line.state_bytes} B",
            f"{line.cost.batch_1_us:.1f}",
            f"{line.cost.batch_64_us:.1f}",
        )
    return table


def _score(line: Line, name: str) -> str:
    return f"{line.scores[name]:.4g}" + (f" ± {line.spread[name]:.2g}" if line.runs > 1 else "")
