"""What the middleware may lose is what the session's policy may lose."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from statestream.service.bridge.qos import Offer, QoS, driving, held, published
from statestream.service.bridge.settings import Settings
from statestream.service.client import Policy
from statestream.service.client.credentials import Access
from statestream.service.errors import InvalidArgument

EXAMPLE = Path(__file__).parents[4] / "deploy/ros2/statestream_ros2/bridge.yaml"
SENSOR, SURE = Offer(reliable=False, latched=False), Offer(reliable=True, latched=False)


@pytest.mark.parametrize(
    ("policy", "listens", "speaks"),
    [
        (Policy(), QoS(True, "all"), QoS(True, "all")),
        (Policy(keep_last=3), QoS(False, 3), QoS(False, 1)),
        (Policy(deadline_s=0.05), QoS(False, 3), QoS(False, 1, lifespan_s=0.05)),
        (Policy(deadline_s=0.001), QoS(False, 1), QoS(False, 1, lifespan_s=0.001)),
        (Policy(deadline_s=0.05, late="suppress"), QoS(True, "all"), QoS(False, 1, lifespan_s=0.05)),
    ],
)
def test_a_policy_as_qos(policy: Policy, listens: QoS, speaks: QoS) -> None:
    assert driving(policy, 0.02, [SURE]) == listens
    assert published(policy) == speaks


def test_no_publisher_is_asked_for_more_than_it_offers() -> None:
    assert driving(Policy(), 0.02, [SURE, SENSOR]) == QoS(False, "all")
    assert held([SURE, SENSOR]) == QoS(False, 1)
    assert held([Offer(reliable=True, latched=True)]) == QoS(True, 1, latched=True)


def test_the_parameters_of_the_example_are_those_of_the_node() -> None:
    words = re.findall(r"^    (\w+): (\S+)", EXAMPLE.read_text(), re.MULTILINE)
    assert [name for name, _ in words] == [field.name for field in fields(Settings)]


def test_settings() -> None:
    settings = Settings(model="terrain", features=("",), deadline_s=0.1, late="suppress")
    assert settings.features == ()
    assert settings.policy == Policy(deadline_s=0.1, late="suppress")
    with pytest.raises(InvalidArgument, match="model: expected NAME or NAME:VERSION"):
        Settings()
    assert settings.access == Access()
    secured = Settings(model="terrain", ca="ca.pem", token_file="token")
    assert secured.access == Access(ca=Path("ca.pem"), token_file=Path("token"))
    with pytest.raises(InvalidArgument, match="cert and key go together"):
        Settings(model="terrain", cert="cert.pem")
    with pytest.raises(InvalidArgument, match="keep_last or deadline_s"):
        Settings(model="terrain", deadline_s=0.1, keep_last=1)
