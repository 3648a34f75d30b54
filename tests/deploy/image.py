"""The steps of deploy/docker/Dockerfile, taken from the file, in a clean Debian, where no docker is."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

from examples.server import free_port
from statestream.service.client import connect
from tests.deploy.checkout import ROOT
from tests.deploy.robot import Robot, until_serving
from tests.deploy.root import SOURCES, contained, make, mirror
from tests.support.bundles import write_leaky

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
ROWS = 200
_FLAGS = re.compile(r"^(--\S+\s+)+")


@dataclass
class Image:
    """What a Dockerfile says."""

    base: str = ""
    steps: list[str] = field(default_factory=list)
    """Its RUN lines, without their flags."""
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read(file: Path) -> Image:
    """The instructions that make a difference to a root file system and what runs in it."""
    with file.open("rb") as source:
        parser = DockerfileParser(fileobj=source)
        structure, env = parser.structure, dict(parser.envs)
    image = Image(env=env)
    for line in structure:
        value = line["value"]
        match line["instruction"]:
            case "FROM":
                image.base = value
            case "RUN":
                image.steps.append(_FLAGS.sub("", value))
            case "USER":
                image.user = value
            case "HEALTHCHECK":
                image.health = json.loads(value.partition("CMD ")[2])
            case "ENTRYPOINT" | "CMD":
                image.command += json.loads(value)
    return image


def replay(say: Callable[[str], None]) -> None:
    """Build, serve, stream, ask for its health."""
    image = read(DOCKERFILE)
    assert image.base == f"debian:{mirror()[1]}-slim", image.base
    path = make("image", "ca-certificates")
    build = contained(path, f"--bind-ro={path}{SOURCES}:{SOURCES}")
    before = build.megabytes() - build.megabytes(SOURCES)
    for step in image.steps:
        build.run("/bin/sh", "-c", step)
    grown = build.megabytes() - build.megabytes(SOURCES) - before
    say(f"Dockerfile: {len(image.steps)} step, install.sh, which adds {grown:.0f} MB to a Debian of {before:.0f} MB")
    write_leaky(path / "var/lib/statestream/models")
    address = f"127.0.0.1:{free_port()}"
    env = image.env | {"STATESTREAM_ADDRESS": address, "STATESTREAM_METRICS_ADDRESS": "", "STATESTREAM_TARGET": address}
    image_root = contained(path, "--read-only", "--tmpfs=/tmp")
    with image_root.running(*image.command, env=env, user=image.user), connect(address) as client:
        until_serving(client)
        with client.stream() as stream:
            Robot(stream).step(ROWS)
        assert "serving" in image_root.run(*image.health, env=env, user=image.user).splitlines()
    say(f"as user {image.user}, nothing to write to: {shlex.join(image.command)}: {ROWS} rows as computed, healthy")
