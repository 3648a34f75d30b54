"""What a cell can be configured to be. No torch here, so that configuration is read and checked without it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from statestream.models.spec import Spec

Count = Annotated[int, Field(gt=0)]
Pixels = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class FullWiring(Spec):
    """Every neuron reaches every neuron; the first `outputs` of them (all, if 0) are read out."""

    kind: Literal["full"] = "full"
    units: Count = 32
    """Neurons."""
    outputs: Annotated[int, Field(ge=0)] = 0
    """Neurons that are read out; 0: all."""
    seed: int = 1111
    """Of the signs and strengths of the synapses."""


class NCPWiring(Spec):
    """A neural circuit policy: sensory → inter → command ⟲ → motor, each connection count given."""

    kind: Literal["ncp"]
    inter: Count
    """Interneurons, which the inputs reach."""
    command: Count
    """Command neurons, which alone are connected to each other."""
    motor: Count
    """Motor neurons, which are read out."""
    sensory_fanout: Count
    """Interneurons that each input reaches."""
    inter_fanout: Count
    """Command neurons that each interneuron reaches."""
    recurrent_command_synapses: Annotated[int, Field(ge=0)]
    """Synapses among the command neurons: the memory of the circuit."""
    motor_fanin: Count
    """Command neurons that reach each motor neuron."""
    seed: int = 22222
    """Of which neurons are connected."""


class AutoNCPWiring(Spec):
    """A neural circuit policy of `units` neurons, `outputs` of them motor neurons, at a given sparsity."""

    kind: Literal["auto_ncp"]
    units: Count
    """Neurons in all; at least three more than `outputs`."""
    outputs: Count
    """Motor neurons, which are read out."""
    sparsity: Annotated[float, Field(ge=0.1, le=0.9)] = 0.5
    """Fraction of synapses that are left out: more is smaller and easier to look at."""
    seed: int = 22222
    """Of which neurons are connected."""


Wiring = Annotated[FullWiring | NCPWiring | AutoNCPWiring, Field(discriminator="kind")]


class CfCOptions(Spec):
    """A CfC: over a `wiring`, or, without one, of `units` neurons behind a backbone."""

    kind: Literal["cfc"]
    units: Count = 32
    """Neurons, without a `wiring`: 16 to 64 for a few sensors, 128 for tens of columns."""
    mode: Literal["default", "no_gate", "pure"] = "default"
    """"default": time blends two states by learned gates. "no_gate": it adds them. "pure": the closed form of the
    equation itself."""
    backbone_units: Count = 128
    """Width of the layers in front of the neurons, without a `wiring`."""
    backbone_layers: Annotated[int, Field(ge=0)] = 1
    """Layers in front of the neurons, without a `wiring`; 0: none."""
    backbone_activation: Literal["lecun_tanh", "tanh", "relu", "silu", "gelu"] = "lecun_tanh"
    """Nonlinearity of these layers."""
    wiring: Wiring | None = None
    """Synapses of the neurons: a neural circuit policy is small, and the page draws it. None: a backbone."""
    mixed_memory: bool = False
    """An LSTM's memory beside the neurons: for what lies hundreds of rows back."""
    memory: Annotated[float, Field(ge=1)] | None = None
    """Longest time constant at the start of training, in nominal periods; None: ncps's start, which forgets fast."""


class LTCOptions(Spec):
    """An LTC over a wiring. `implicit` keeps its constants positive by softplus instead of by clamping."""

    kind: Literal["ltc"]
    wiring: Wiring = FullWiring()
    """Neurons and synapses."""
    unfolds: Count = 6
    """Steps of the solver in a row: more is more exact and slower."""
    implicit: bool = False
    """Keep constants positive by softplus, not by clamping."""
    mixed_memory: bool = False
    """An LSTM's memory beside the neurons: for what lies hundreds of rows back."""


class GatedOptions(Spec):
    """A GRU or an LSTM; elapsed time is one more input, or ignored."""

    kind: Literal["gru", "lstm"]
    units: Count = 32
    """Size of the state."""
    time: Literal["feature", "none"] = "feature"
    """"feature": the time since the row before is an input. "none": it is ignored."""


class S5Options(Spec):
    """An S5 layer: `pairs` of complex modes between the inputs and `units` outputs."""

    kind: Literal["s5"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    pairs: Count = 32
    """Complex modes of the state."""
    discretisation: Literal["zoh", "bilinear"] = "zoh"
    """Of a gap: exact for an input that holds (`zoh`), or `bilinear`."""


class S4DOptions(Spec):
    """An S4D layer: `pairs` of complex modes for each of `units` channels."""

    kind: Literal["s4d"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    pairs: Count = 16
    """Complex modes of each channel."""
    discretisation: Literal["zoh", "bilinear"] = "zoh"
    """Of a gap: exact for an input that holds (`zoh`), or `bilinear`."""


class LiquidS4Options(Spec):
    """A Liquid-S4 layer: `pairs` of complex modes, bent by the input."""

    kind: Literal["liquid_s4"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    pairs: Count = 32
    """Complex modes of the state."""


class LRUOptions(Spec):
    """A linear recurrent unit: `pairs` of complex modes between the inputs and `units` outputs."""

    kind: Literal["lru"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    pairs: Count = 32
    """Complex modes of the state."""


class LinOSSOptions(Spec):
    """Forced harmonic oscillators, by the implicit scheme, between the inputs and `units` outputs."""

    kind: Literal["linoss"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    oscillators: Count = 64
    """Oscillators of the state."""


class DampedLinOSSOptions(Spec):
    """Forced oscillators, each with a learned damping, solved exactly, between the inputs and `units` outputs."""

    kind: Literal["damped_linoss"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    oscillators: Count = 64
    """Oscillators of the state."""


class LrcSSMOptions(Spec):
    """An LrcSSM: `units` neurons of liquid resistance and liquid capacitance, each with a synapse to itself alone."""

    kind: Literal["lrc_ssm"]
    units: Count = 32
    """Neurons."""


class MinGRUOptions(Spec):
    """A minGRU."""

    kind: Literal["mingru"]
    units: Count = 32
    """Size of the state."""


class MambaOptions(Spec):
    """A Mamba block: `expand` times `units` channels of `states` numbers behind a convolution of `taps` rows."""

    kind: Literal["mamba"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    states: Count = 16
    """Numbers of state of each channel."""
    taps: Annotated[int, Field(ge=2)] = 4
    """Rows of the short convolution."""
    expand: Count = 2
    """Channels of each of `units`."""


class Mamba2Options(Spec):
    """A Mamba-2 block: `heads` of `width` channels, of `states` numbers each, behind a convolution of `taps` rows."""

    kind: Literal["mamba2"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    heads: Count = 4
    """Heads, each with a decay of its own."""
    width: Count = 16
    """Channels of a head."""
    states: Count = 16
    """Numbers of state of each channel."""
    taps: Annotated[int, Field(ge=2)] = 4
    """Rows of the short convolution."""


class GatedDeltaOptions(Spec):
    """A gated delta network: `heads` that keep values of `width` numbers by keys of `keys`, behind a convolution."""

    kind: Literal["gated_delta"]
    units: Count = 32
    """Numbers that the layer puts out a row."""
    heads: Count = 4
    """Heads, each with a memory of its own."""
    keys: Count = 16
    """Numbers of a key."""
    width: Count = 16
    """Numbers of the value under a key."""
    taps: Annotated[int, Field(ge=2)] = 4
    """Rows of the short convolution."""


LayerOptions = Annotated[
    CfCOptions
    | LTCOptions
    | GatedOptions
    | S5Options
    | S4DOptions
    | LiquidS4Options
    | LRUOptions
    | LinOSSOptions
    | DampedLinOSSOptions
    | LrcSSMOptions
    | MinGRUOptions
    | MambaOptions
    | Mamba2Options
    | GatedDeltaOptions,
    Field(discriminator="kind"),
]


class StackOptions(Spec):
    """Pre-norm residual blocks of `width`, one a layer. A layer is a cell's options, or its name: `["s5", "cfc"]`."""

    kind: Literal["stack"]
    width: Count = 64
    """Numbers between blocks."""
    layers: Annotated[tuple[LayerOptions, ...], Field(min_length=1)]
    """One block each, from the input on."""

    @model_validator(mode="before")
    @classmethod
    def _names_are_layers_of_this_width(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("layers"), (list, tuple)):
            return values
        width = values.get("width", cls.model_fields["width"].default)
        layers = [_layer(one, width) if isinstance(one, str) else one for one in values["layers"]]
        return {**values, "layers": layers}


def _layer(kind: str, width: int) -> dict[str, Any]:
    size = {"wiring": {"kind": "full", "units": width}} if kind == "ltc" else {"units": width}
    return {"kind": kind, **size}


class MLPOptions(Spec):
    """An encoder of single rows: linear maps to these sizes, with a SiLU after each."""

    kind: Literal["mlp"]
    units: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Sizes of the layers."""


class ConvolutionOptions(Spec):
    """An encoder of the last `taps` rows."""

    kind: Literal["convolution"]
    units: Count
    """Numbers that it puts out a row."""
    taps: Annotated[int, Field(ge=2)] = 5
    """Rows that it sees."""


class FramesOptions(Spec):
    """An encoder of 8-bit pictures of `frame` (height, width): cropped, resized to `size`, convolved."""

    kind: Literal["frames"]
    frame: tuple[Count, Count]
    """Height and width of the pictures that clients send, in pixels."""
    size: tuple[Count, Count]
    """Height and width that they are resized to, in pixels: 30 x 40 suffices to follow a road."""
    units: Count
    """Numbers that it puts out a picture."""
    crop: tuple[Pixels, Pixels, Pixels, Pixels] = (0, 0, 0, 0)
    """Left out at top, bottom, left and right, in pixels of the frame."""
    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64)
    """Of each convolution; each halves height and width."""
    motion: bool = False
    """Also what changed since the picture before, which the state then holds, small and grey."""


class SpectralOptions(Spec):
    """An encoder of vibration: a bank of damped oscillators on every input, whose log energies are the features.

    What is not given follows from the nominal period: 12 frequencies from 2 to 46 Hz, a bandwidth of 1.5 Hz and a
    smoothing of 0.5 s where rows come at 100 Hz.
    """

    kind: Literal["spectral"]
    frequencies_hz: tuple[NotNegative, ...] = ()
    """Of the oscillators; at most half the nominal rate."""
    range_hz: tuple[NotNegative, Positive, Count] | None = None
    """Instead: the lowest, the highest, and how many, evenly spaced."""
    bandwidth_hz: Positive | None = None
    """Width of each oscillator's band."""
    smoothing_s: Positive | None = None
    """Time constant of the energies."""
    learned: bool = False
    """Frequencies are learned; they start as given."""

    @model_validator(mode="after")
    def _one_choice_of_frequencies(self) -> SpectralOptions:
        if self.frequencies_hz and self.range_hz:
            raise ValueError("give either encoder.frequencies_hz or encoder.range_hz")
        return self


class EncodedOptions(Spec):
    """An encoder in front of a cell or of a stack, or alone."""

    kind: Literal["encoded"]
    encoder: Annotated[MLPOptions | ConvolutionOptions | FramesOptions | SpectralOptions, Field(discriminator="kind")]
    """What a row or picture goes through first."""
    cell: Annotated[LayerOptions | StackOptions, Field(discriminator="kind")] | None = None
    """The recurrent network behind it; None: the encoder alone, without a memory."""


CellOptions = Annotated[LayerOptions | StackOptions | EncodedOptions, Field(discriminator="kind")]
