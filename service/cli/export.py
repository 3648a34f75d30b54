"""`statestream export`: exports a trained run as a bundle."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from statestream.models.bundle import FUSED
from statestream.models.spec import MAX_DROP
from statestream.service.cli.console import out, working
from statestream.service.extras import need


class Bits(str, Enum):
    """Type in which quantized weights are stored."""

    INT8 = "int8"
    FP16 = "fp16"


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, its weights file, or a checkpoint: best.ckpt.")],
    repository: Annotated[Path, typer.Argument(help="Folder of bundles, NAME/VERSION/.")] = Path("repository"),
    name: Annotated[str, typer.Option(help="The model's name.", show_default="that of the run")] = "",
    version: Annotated[
        int | None, typer.Option(help="The bundle's version.", min=1, show_default="the next one")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --version where it exists; without it the next one is written.")
    ] = False,
    aux_tau: Annotated[
        bool,
        typer.Option("--aux-tau", help="Add an output aux_tau: time constants of the liquid neurons, in seconds."),
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add an output probability: exp of the log-probabilities y.")
    ] = False,
    jpeg: Annotated[bool, typer.Option("--jpeg", help="Clients send frames as JPEG, not as raw pixels.")] = False,
    quantize: Annotated[Bits | None, typer.Option(help="Store weights in 8 or 16 bits.")] = None,
    max_drop: Annotated[
        float, typer.Option(help="Largest relative loss of accuracy, or rise of error, by --quantize.", min=0.0)
    ] = MAX_DROP,
    adapt: Annotated[
        float | None,
        typer.Option(help="Let the readout keep learning in every session, with this forgetting factor, such as 0.99."),
    ] = None,
) -> None:
    """Export a trained model as a bundle, after checking its graphs against PyTorch on its test recordings.

    [bold]Examples[/]

      statestream export runs/wrist

      statestream export runs/wrist repository --name wrist --version 3 --overwrite

      statestream export runs/wrist/best.ckpt

      statestream export runs/wrist --aux-tau

      statestream export runs/wrist --probabilities

      statestream export runs/lane --jpeg

      statestream export runs/wrist --quantize int8 --max-drop 0.005

      statestream export runs/next --adapt 0.99
    """
    exporter = need("statestream.models.export.exporter", "train")
    with working("comparing PyTorch, step.onnx and chunk.onnx on recordings"):
        bundle = exporter.export(
            run,
            repository,
            name or None,
            version,
            overwrite=overwrite,
            aux_tau=aux_tau,
            probabilities=probabilities,
            jpeg=jpeg,
            quantize=quantize.value if quantize else None,
            max_drop=max_drop,
            adapt=adapt,
        )
    if version not in (None, bundle.manifest.version):
        out.print(f"version {version} exists; --overwrite replaces it", highlight=False)
    out.print(f"[green]exported[/] {bundle.manifest.ref} to {bundle.path}", highlight=False)
    out.print(f"chunk graph: {bundle.manifest.training['chunk_graph']}", highlight=False)
    if bundle.fused() is not None:
        out.print(f"fused graphs: {', '.join(FUSED)}", highlight=False)
    if (small := bundle.manifest.quantization) is not None:
        out.print(
            f"{small.weights}: {small.weight_bytes:,} of {small.float32_bytes:,} bytes of weights; "
            f"{small.score} on the {small.split} split {small.before:.4g}, then {small.after:.4g}",
            highlight=False,
        )
