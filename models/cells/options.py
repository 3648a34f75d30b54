"""What a cell can be configured to be. No torch here, so that configuration is read and checked without it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from statestream.models.spec import Spec

Count = Annotated[int, Field(gt=0)]


class FullWiring(Spec):
    """Every neuron reaches every neuron; the first `outputs` of them (all, if 0) are read out."""

    kind: Literal["full"] = "full"
    units: Count = 32
    outputs: Annotated[int, Field(ge=0)] = 0
    seed: int = 1111


class NCPWiring(Spec):
    """A neural circuit policy: sensory → inter → command ⟲ → motor, each connection count given."""

    kind: Literal["ncp"]
    inter: Count
    command: Count
    motor: Count
    sensory_fanout: Count
    inter_fanout: Count
    recurrent_command_synapses: Annotated[int, Field(ge=0)]
    motor_fanin: Count
    seed: int = 22222


class AutoNCPWiring(Spec):
    """A neural circuit policy of `units` neurons, `outputs` of them motor neurons, at a given sparsity."""

    kind: Literal["auto_ncp"]
    units: Count
    outputs: Count
    sparsity: Annotated[float, Field(ge=0.1, le=0.9)] = 0.5
    seed: int = 22222


Wiring = Annotated[FullWiring | NCPWiring | AutoNCPWiring, Field(discriminator="kind")]


class CfCOptions(Spec):
    """A CfC: over a `wiring`, or, without one, of `units` neurons behind a backbone."""

    kind: Literal["cfc"]
    units: Count = 32
    mode: Literal["default", "no_gate", "pure"] = "default"
    backbone_units: Count = 128
    backbone_layers: Annotated[int, Field(ge=0)] = 1
    backbone_activation: Literal["lecun_tanh", "tanh", "relu", "silu", "gelu"] = "lecun_tanh"
    wiring: Wiring | None = None
    mixed_memory: bool = False
    memory: Annotated[float, Field(ge=1)] | None = None
    """Longest time constant at the start of training, in nominal periods; None: ncps's start, which forgets fast."""


class LTCOptions(Spec):
    """An LTC over a wiring. `implicit` keeps its constants positive by softplus instead of by clamping."""

    kind: Literal["ltc"]
    wiring: Wiring = FullWiring()
    unfolds: Count = 6
    implicit: bool = False
    mixed_memory: bool = False


class GatedOptions(Spec):
    """A GRU or an LSTM; elapsed time is one more input, or ignored."""

    kind: Literal["gru", "lstm"]
    units: Count = 32
    time: Literal["feature", "none"] = "feature"


CellOptions = Annotated[CfCOptions | LTCOptions | GatedOptions, Field(discriminator="kind")]
