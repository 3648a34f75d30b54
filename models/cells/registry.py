"""From options to a cell. A new family adds its options to `options.py` and one line to `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ncps import wirings

from statestream.models.cells.base import Cell
from statestream.models.cells.cfc import CfC, WiredCfC
from statestream.models.cells.composite import Chain
from statestream.models.cells.frames import FrameEncoder
from statestream.models.cells.gated import GRU, LSTM
from statestream.models.cells.linoss import LinOSS
from statestream.models.cells.liquid_s4 import LiquidS4
from statestream.models.cells.lru import LRU
from statestream.models.cells.ltc import LTC
from statestream.models.cells.mamba import Mamba
from statestream.models.cells.mingru import MinGRU
from statestream.models.cells.mixed import MixedMemory
from statestream.models.cells.mlp import MLP
from statestream.models.cells.options import (
    AutoNCPWiring,
    CellOptions,
    CfCOptions,
    ConvolutionOptions,
    EncodedOptions,
    FramesOptions,
    FullWiring,
    GatedOptions,
    LinOSSOptions,
    LiquidS4Options,
    LRUOptions,
    LTCOptions,
    MambaOptions,
    MinGRUOptions,
    MLPOptions,
    NCPWiring,
    S4DOptions,
    S5Options,
    StackOptions,
)
from statestream.models.cells.s4d import S4D
from statestream.models.cells.s5 import S5
from statestream.models.cells.stack import Stack
from statestream.models.cells.window import Convolution


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


def _s5(options: S5Options, input_size: int) -> Cell:
    return S5(input_size, options.units, pairs=options.pairs, discretisation=options.discretisation)


def _s4d(options: S4DOptions, input_size: int) -> Cell:
    return S4D(input_size, options.units, pairs=options.pairs, discretisation=options.discretisation)


def _liquid_s4(options: LiquidS4Options, input_size: int) -> Cell:
    return LiquidS4(input_size, options.units, pairs=options.pairs)


def _lru(options: LRUOptions, input_size: int) -> Cell:
    return LRU(input_size, options.units, pairs=options.pairs)


def _linoss(options: LinOSSOptions, input_size: int) -> Cell:
    return LinOSS(input_size, options.units, oscillators=options.oscillators)


def _mingru(options: MinGRUOptions, input_size: int) -> Cell:
    return MinGRU(input_size, options.units)


def _mamba(options: MambaOptions, input_size: int) -> Cell:
    return Mamba(input_size, options.units, states=options.states, taps=options.taps, expand=options.expand)


def _stack(options: StackOptions, input_size: int) -> Cell:
    return Stack(input_size, options.width, [build_cell(layer, options.width) for layer in options.layers])


def _encoded(options: EncodedOptions, input_size: int) -> Cell:
    encoder = _encoder(options.encoder, input_size)
    if options.cell is None:
        return encoder
    return Chain({"encoder": encoder, "cell": build_cell(options.cell, encoder.output_size)})


def _encoder(options: MLPOptions | ConvolutionOptions | FramesOptions, input_size: int) -> Cell:
    if isinstance(options, MLPOptions):
        return MLP(input_size, options.units)
    if isinstance(options, ConvolutionOptions):
        return Convolution(input_size, options.units, taps=options.taps)
    return FrameEncoder(
        options.frame,
        options.units,
        size=options.size,
        crop=options.crop,
        channels=options.channels,
        motion=options.motion,
    )


BUILDERS: dict[str, Callable[[Any, int], Cell]] = {
    "cfc": _cfc,
    "ltc": _ltc,
    "gru": _gru,
    "lstm": _lstm,
    "s5": _s5,
    "s4d": _s4d,
    "liquid_s4": _liquid_s4,
    "lru": _lru,
    "linoss": _linoss,
    "mingru": _mingru,
    "mamba": _mamba,
    "stack": _stack,
    "encoded": _encoded,
}
"""Cell families by name."""
