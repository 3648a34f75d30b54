"""Lightning module: trains a network on windows, carrying the detached state between them."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor

from statestream.models.cells.base import State
from statestream.models.cells.cfc_sequence import bf16_gradients
from statestream.models.config import Config
from statestream.models.spec import TimeSpec
from statestream.models.training.batches import Batches, Epoch, Window
from statestream.models.training.fixed_part import without_fixed_part
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import rebuilding
from statestream.models.training.splits import Split
from statestream.models.training.tasks import loss, scores

VALIDATED = 256
"""Recordings validated in one batch."""
WARMUP = 0.1
"""Fraction of all optimiser steps in which the learning rate rises."""


class Learner(lightning.LightningModule):
    """A network, its data and its optimiser.

    `history` has one entry per epoch; checkpoints include it, so that a resumed run has all of it. They also have what
    rebuilds the network, so that each can be exported.
    """

    def __init__(self, network: Network, config: Config, split: Split, time: TimeSpec) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.split = split
        self.time = time
        self.at_end = config.task.at == "end"
        # In a tuple, which Lightning does not search for modules: the weights are those of `network`.
        self._trained = without_fixed_part(network, split, time, config.training, at_end=self.at_end)
        self.history: list[dict[str, float]] = []
        self._state: State = {}
        self._losses: list[Tensor] = []
        self._made: Batches | None = None

    def on_fit_start(self) -> None:
        self._trained[0].to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of the first epoch, and, but for augmentation, of every other."""
        return len(self._batches().epoch(0))

    def train_dataloader(self) -> Epoch:
        return self._batches().epoch(self.current_epoch)

    def val_dataloader(self) -> list[int]:
        # One step, in which all recordings are scored.
        return [0]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch.to(device) if isinstance(batch, Window) else batch

    def training_step(self, batch: Window, batch_idx: int) -> Tensor:
        network = self._trained[0]
        if batch.first:
            self._state = network.initial_state(len(batch.valid_BT))
        valid_BT = None if bool(batch.valid_BT.all()) else batch.valid_BT
        with bf16_gradients(enabled=self.config.training.precision == "bf16"):
            y_BTK, state = network.unroll(batch.x_BTF, self._state, batch.dt_BT1, valid_BT)
        self._state = {name: value.detach() for name, value in state.items()}
        found = loss(network, y_BTK, batch.y, batch.scored_BT)
        self._losses.append(found.detach())
        self.log("loss", found, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.valid_BT))
        return found

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.network.cell.constrain()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        network, split = self._trained
        outputs = [r.outputs for r in rollout(network, split.validation, self.time, batch=VALIDATED)]
        found = scores(network, outputs, split.validation, at_end=self.at_end)
        self.log_dict({f"val_{name}": value for name, value in found.items()}, prog_bar=True, batch_size=1)

    def on_train_epoch_end(self) -> None:
        entry = {"epoch": float(self.current_epoch), "loss": float(torch.stack(self._losses).mean())}
        logged = self.trainer.callback_metrics
        entry |= {name: float(value) for name, value in logged.items() if name.startswith("val_")}
        self.history.append(entry)
        self._losses.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        checkpoint |= rebuilding(self.config, self.network)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        options = self.config.training
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        if options.schedule == "constant":
            return optimizer
        # Segments and augmentation hardly change an epoch's length; the first one's is used for all.
        total = self.steps_per_epoch * options.epochs
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _batches(self) -> Batches:
        if self._made is None:
            network, split = self._trained
            self._made = Batches(
                split.train,
                network.facts.features,
                self.time,
                self.config.training,
                at_end=self.at_end,
                labels=network.facts.labels,
                rank=self.trainer.global_rank,
                world=self.trainer.world_size,
            )
        return self._made


def cosine(part: float) -> float:
    """Learning rate factor at a fraction of the training: a linear rise, then a cosine down to 0.01."""
    if part < WARMUP:
        return max(part / WARMUP, 0.01)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (part - WARMUP) / (1 - WARMUP))))
