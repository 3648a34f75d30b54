"""What is in deploy/, looked at without running it: scripts, unit, images and manifests.

`make test-install`, `make test-arm64`, `make test-wheels` and `make wheels` run it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from statestream.service.config import ServerConfig
from tests.deploy.image import read

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile*"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "compose/compose.yaml"
KUBERNETES = ("1.30", kubernetes_validate.latest_version())
"""The first that knows all that the manifests say, and the last that the schemas are there for."""
MOST_EXPOSED = 20
"""Of 100, by `systemd-analyze security`: less is better."""


def tool(name: str) -> str:
    """A program that came with a package of the `dev` extra, or with the system."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not there for this machine")
    return found


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("script", ["install.sh", "wheels.sh"])
def test_scripts_are_sound_shell(script: str) -> None:
    assert said(tool("shellcheck"), DEPLOY / script) == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--everything"], "'--everything' is no option"),
        (["--from"], "--from needs a value"),
        (["--from", "nowhere.whl"], "--from: there is no 'nowhere.whl'"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--uid", "1"], "--uid goes with --no-service"),
    ],
)
def test_the_installer_says_what_it_cannot_take(words: list[str], complaint: str) -> None:
    done = subprocess.run([DEPLOY / "install.sh", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.fixture(params=["", "gpu.conf"], ids=["cpu", "gpu"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit, with a program that is there, and with what `install.sh --gpu` adds."""
    text = (DEPLOY / "systemd/statestream.service").read_text()
    path = tmp_path / "statestream.service"
    path.write_text(text.replace("/opt/statestream/bin/statestream", sys.executable))
    if request.param:
        (tmp_path / "statestream.service.d").mkdir()
        shutil.copy(DEPLOY / "systemd" / request.param, tmp_path / "statestream.service.d")
    return path


def test_systemd_has_nothing_to_say_about_the_unit(unit: Path) -> None:
    assert said(tool("systemd-analyze"), "verify", "--man=no", unit) == ""


def test_the_unit_is_locked_down(unit: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_settings_of_a_device_are_settings() -> None:
    config = ServerConfig.load(DEPLOY / "server.toml")
    assert config.address.startswith("127.0.0.1:"), "nobody else reaches a device as it is installed"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_made_by_the_installer(file: Path) -> None:
    assert said(tool("hadolint"), file) == ""
    image = read(file)
    assert [step.split()[0] for step in image.steps] == ["/src/deploy/install.sh"]
    assert image.command == ["statestream", "serve"]
    assert image.user not in ("", "root", "0")


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_what_kubernetes_takes(file: Path, version: str) -> None:
    for manifest in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_gets_every_manifest_and_the_proxy_of_everywhere() -> None:
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert sorted(DEPLOY / name for name in kustomization["resources"]) == MANIFESTS
    assert kustomization["configMapGenerator"] == [{"name": "envoy", "files": ["envoy/envoy.yaml"]}]
    servers = {m["kind"]: m for m in yaml.safe_load_all((DEPLOY / "kubernetes/servers.yaml").read_text())}
    envoy = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())
    (endpoint,) = envoy["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {
        "address": servers["Service"]["metadata"]["name"],
        "port_value": servers["Service"]["spec"]["ports"][0]["port"],
    }
    assert servers["Service"]["spec"]["clusterIP"] == "None", "its name stands for every server"


def test_kubernetes_runs_servers_as_the_user_of_the_image() -> None:
    servers = next(yaml.safe_load_all((DEPLOY / "kubernetes/servers.yaml").read_text()))
    who = servers["spec"]["template"]["spec"]["securityContext"]
    assert f"{who['runAsUser']}:{who['runAsGroup']}" == read(DEPLOY / "docker/Dockerfile").user


def test_the_compose_file_is_one() -> None:
    assert "ok" in said(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for path in re.findall(r"(\.{1,2}/\S+?):", " ".join(v for s in services.values() for v in s.get("volumes", ()))):
        assert (COMPOSE.parent / path).is_file()


@pytest.mark.parametrize("file", [*DOCKERFILES, *MANIFESTS, COMPOSE], ids=lambda path: path.name)
def test_what_servers_are_told_are_settings(file: Path) -> None:
    told = {name.lower() for name in re.findall(r"STATESTREAM_([A-Z_]+)", file.read_text())}
    assert told <= ServerConfig.model_fields.keys()
