"""From options to a cell. A new family adds its options to `options.py` and one line to `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ncps import wirings

from statestream.models.cells.base import Cell
from statestream.models.cells.cfc import CfC, WiredCfC
from statestream.models.cells.composite import Chain
from statestream.models.cells.damped_linoss import DampedLinOSS
from statestream.models.cells.frames import FrameEncoder
from statestream.models.cells.gated import GRU, LSTM
from statestream.models.cells.gated_delta import GatedDelta
from statestream.models.cells.linoss import LinOSS
from statestream.models.cells.liquid_s4 import LiquidS4
from statestream.models.cells.lrc_ssm import LrcSSM
from statestream.models.cells.lru import LRU
from statestream.models.cells.ltc import LTC
from statestream.models.cells.mamba import Mamba
from statestream.models.cells.mamba2 import Mamba2
from statestream.models.cells.mingru import MinGRU
from statestream.models.cells.mixed import MixedMemory
from statestream.models.cells.mlp import MLP
from statestream.models.cells.options import (
    AutoNCPWiring,
    CellOptions,
    CfCOptions,
    ConvolutionOptions,
    DampedLinOSSOptions,
    EncodedOptions,
    FramesOptions,
    FullWiring,
    GatedDeltaOptions,
    GatedOptions,
    LinOSSOptions,
    LiquidS4Options,
    LrcSSMOptions,
    LRUOptions,
    LTCOptions,
    Mamba2Options,
    MambaOptions,
    MinGRUOptions,
    MLPOptions,
    NCPWiring,
    S4DOptions,
    S5Options,
    SpectralOptions,
    StackOptions,
)
from statestream.models.cells.s4d import S4D
from statestream.models.cells.s5 import S5
from statestream.models.cells.spectral import BANDWIDTH, COUNT, HIGHEST, LOWEST, SMOOTHING, SpectralEncoder
from statestream.models.cells.stack import Stack
from statestream.models.cells.whitening import Whitening
from statestream.models.cells.window import Convolution


def build_cell(options: CellOptions, input_size: int, *, period_s: float = 1.0) -> Cell:
    """A freshly initialised cell, random by torch's generator.

    Args:
        period_s: nominal period. Cells count time in it; only options in Hz or seconds need to know it.

    Raises:
        ValueError: the options ask for a wiring that cannot exist, or for frequencies that rows at this period cannot
            show; the message says why.
    """
    if isinstance(options, EncodedOptions):
        return _encoded(options, input_size, period_s)
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


def _damped_linoss(options: DampedLinOSSOptions, input_size: int) -> Cell:
    return DampedLinOSS(input_size, options.units, oscillators=options.oscillators)


def _lrc_ssm(options: LrcSSMOptions, input_size: int) -> Cell:
    return LrcSSM(input_size, options.units)


def _mingru(options: MinGRUOptions, input_size: int) -> Cell:
    return MinGRU(input_size, options.units)


def _mamba(options: MambaOptions, input_size: int) -> Cell:
    return Mamba(input_size, options.units, states=options.states, taps=options.taps, expand=options.expand)


def _mamba2(options: Mamba2Options, input_size: int) -> Cell:
    return Mamba2(
        input_size,
        options.units,
        heads=options.heads,
        width=options.width,
        states=options.states,
        taps=options.taps,
    )


def _gated_delta(options: GatedDeltaOptions, input_size: int) -> Cell:
    return GatedDelta(
        input_size, options.units, heads=options.heads, keys=options.keys, width=options.width, taps=options.taps
    )


def _stack(options: StackOptions, input_size: int) -> Cell:
    return Stack(input_size, options.width, [build_cell(layer, options.width) for layer in options.layers])


def _encoded(options: EncodedOptions, input_size: int, period_s: float) -> Cell:
    inner: dict[str, Cell] = {}
    if isinstance(options.encoder, SpectralOptions):
        inner["encoder"] = _spectral(options.encoder, input_size, period_s)
        inner["features"] = Whitening(inner["encoder"].output_size)
    else:
        inner["encoder"] = _encoder(options.encoder, input_size)
    if options.cell is not None:
        inner["cell"] = build_cell(options.cell, inner["encoder"].output_size)
    return Chain(inner) if len(inner) > 1 else inner["encoder"]


def _spectral(options: SpectralOptions, input_size: int, period_s: float) -> Cell:
    """Options in Hz and seconds become cycles and periods."""
    lowest, highest, count = options.range_hz or (LOWEST / period_s, HIGHEST / period_s, COUNT)
    frequencies_hz = options.frequencies_hz or np.linspace(lowest, highest, count).tolist()
    if max(frequencies_hz) * period_s > 0.5:
        raise ValueError(
            f"cell.encoder: an oscillator of {max(frequencies_hz):g} Hz needs rows at twice that rate; they come every "
            f"{period_s:g} s; choose lower frequencies_hz or range_hz"
        )
    return SpectralEncoder(
        input_size,
        [hz * period_s for hz in frequencies_hz],
        bandwidth=BANDWIDTH if options.bandwidth_hz is None else options.bandwidth_hz * period_s,
        smoothing=SMOOTHING if options.smoothing_s is None else options.smoothing_s / period_s,
        learned=options.learned,
    )


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
    "damped_linoss": _damped_linoss,
    "lrc_ssm": _lrc_ssm,
    "mingru": _mingru,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "gated_delta": _gated_delta,
    "stack": _stack,
}
"""Cell families by name, but for encoders in front of them."""
