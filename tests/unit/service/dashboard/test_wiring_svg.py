"""The picture of a wiring: everything is in it, and it is well-formed whatever things are called."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from pydantic import ValidationError

from statestream.models.spec import Manifest, WiringSpec
from statestream.service.dashboard.wiring_svg import wiring_svg
from statestream.service.errors import FailedPrecondition
from tests.conftest import leaky_manifest

SVG = "{http://www.w3.org/2000/svg}"
WIRING = WiringSpec(
    layers={"sensory": 2, "inter": 3, "command": 2, "motor": 1},
    synapses=((0, 2, 1), (1, 4, -1), (2, 5, 1), (5, 6, -1), (6, 6, 1), (6, 7, 1)),
)


def drawn(manifest: Manifest) -> ElementTree.Element:
    return ElementTree.fromstring(wiring_svg(manifest))


def manifest_of(wiring: WiringSpec, labels: tuple[str, ...] = ("a", "b")) -> Manifest:
    manifest = leaky_manifest()
    x = manifest.inputs[0].model_copy(update={"labels": labels})
    return manifest.model_copy(update={"wiring": wiring, "inputs": (x,)})


def test_every_neuron_and_synapse_is_drawn() -> None:
    picture = drawn(manifest_of(WIRING))
    circles = picture.findall(f"{SVG}circle")
    assert len({circle.get("cx") for circle in circles}) == 4, "a column for each layer"
    assert len({(circle.get("cx"), circle.get("cy")) for circle in circles}) == 8
    kinds = [path.get("class") for path in picture.findall(f"{SVG}path")]
    assert (kinds.count("excites"), kinds.count("inhibits")) == (4, 2)
    titles = [path.findtext(f"{SVG}title") for path in picture.findall(f"{SVG}path")]
    assert "sensory 1: b inhibits inter 2" in titles
    assert "command 1 excites command 1" in titles
    words = [text.text for text in picture.findall(f"{SVG}text")]
    assert {"sensory", "inter", "command", "motor", "a", "b"} <= set(words)


def test_columns_stand_in_the_order_of_the_layers() -> None:
    words = [text for text in drawn(manifest_of(WIRING)).findall(f"{SVG}text") if text.text in WIRING.layers]
    words.sort(key=lambda text: float(text.get("x", "")))
    assert [text.text for text in words] == ["sensory", "inter", "command", "motor"]


def test_names_are_text() -> None:
    words = [text.text for text in drawn(manifest_of(WIRING, ("<&>", "/imu/data.angular_velocity.x"))).iter()]
    assert "<&>" in words
    assert "….angular_velocity.x" in words


def test_a_large_layer_fits_into_the_picture() -> None:
    wiring = WiringSpec(layers={"sensory": 300, "inter": 3, "command": 2, "motor": 1}, synapses=((299, 300, 1),))
    picture = drawn(manifest_of(wiring))
    rows = [float(circle.get("cy", "")) for circle in picture.findall(f"{SVG}circle")]
    assert 0 < min(rows) < max(rows) < float(picture.get("height", ""))


def test_a_model_without_a_wiring_has_no_picture() -> None:
    with pytest.raises(FailedPrecondition, match="leaky:1 has no wiring"):
        wiring_svg(leaky_manifest())


def test_a_synapse_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ValidationError, match="synapse from 0 to 2: there are 2 neurons"):
        WiringSpec(layers={"sensory": 1, "motor": 1}, synapses=((0, 2, 1),))
