"""Progress of a training on the terminal: one bar over all epochs, with the newest figures."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SHOWN = ("loss", "val_loss", "val_accuracy", "val_mse")


class EpochProgress(ProgressBar):
    """One bar over all epochs.

    In a file or pipe, a line after each tenth of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("  epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("training", figures="")

    def disable(self) -> None:
        """Show nothing; Lightning calls it in all processes but the first."""
        self._progress.disable = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress.update(self._task, total=trainer.max_epochs, completed=trainer.current_epoch)
        if self._console.is_terminal:
            self._progress.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        figures = "  ".join(
            f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items() if name in SHOWN
        )
        self._progress.update(self._task, completed=done, figures=figures)
        every = max(1, (trainer.max_epochs or 10) // 10)
        if not self._console.is_terminal and not self._progress.disable and done % every == 0:
            self._console.print(f"  epoch {done}/{trainer.max_epochs}  {figures}", highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._progress.stop()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """No metrics beyond the figures of the bar."""
        return {}
