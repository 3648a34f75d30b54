"""From options to a cell. A new family adds its options to `options.py` and one line to `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ncps import wirings

from statestream.models.cells.base import Cell
from statestream.models.cells.cfc import CfC, WiredCfC
from statestream.models.cells.gated import GRU, LSTM
from statestream.models.cells.ltc import LTC
from statestream.models.cells.mixed import MixedMemory
from statestream.models.cells.options import (
    AutoNCPWiring,
    CellOptions,
    CfCOptions,
    FullWiring,
    GatedOptions,
    LTCOptions,
    NCPWiring,
)


def build_cell(options: CellOptions, input_size: int) -> Cell:
    """A freshly initialised cell, random by torch's generator.

    Raises:
        ValueError: the options ask for a wiring that cannot exist; the message says why.
    """
    return BUILDERS[options.kind](options, input_size)


def build_wiring(options: FullWiring | NCPWiring | AutoNCPWiring) -> Any:
    """The `ncps.wirings.Wiring` that the options describe, not yet built for an input size."""
    if isinstance(options, FullWiring):
        return wirings.FullyConnected(options.units, options.outputs or None, erev_init_seed=options.seed)
    if isinstance(options, AutoNCPWiring):
        return wirings.AutoNCP(options.units, options.outputs, sparsity_level=options.sparsity, seed=options.seed)
    return wirings.NCP(
        options.inter,
        options.command,
        options.motor,
        options.sensory_fanout,
        options.inter_fanout,
        options.recurrent_command_synapses,
        options.motor_fanin,
        seed=options.seed,
    )


def _cfc(options: CfCOptions, input_size: int) -> Cell:
    cell: WiredCfC | CfC
    if options.wiring is not None:
        cell = WiredCfC(input_size, build_wiring(options.wiring), mode=options.mode)
    else:
        cell = CfC(
            input_size,
            options.units,
            mode=options.mode,
            backbone_units=options.backbone_units,
            backbone_layers=options.backbone_layers,
            backbone_activation=options.backbone_activation,
        )
    if options.memory is not None:
        cell.remember(options.memory)
    return MixedMemory(cell) if options.mixed_memory else cell


def _ltc(options: LTCOptions, input_size: int) -> Cell:
    cell = LTC(input_size, build_wiring(options.wiring), unfolds=options.unfolds, implicit=options.implicit)
    return MixedMemory(cell) if options.mixed_memory else cell


def _gru(options: GatedOptions, input_size: int) -> Cell:
    return GRU(input_size, options.units, time=options.time)


def _lstm(options: GatedOptions, input_size: int) -> Cell:
    return LSTM(input_size, options.units, time=options.time)


BUILDERS: dict[str, Callable[[Any, int], Cell]] = {"cfc": _cfc, "ltc": _ltc, "gru": _gru, "lstm": _lstm}
"""Cell families by name."""
