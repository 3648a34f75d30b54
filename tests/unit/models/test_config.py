"""A configuration is checked field by field, and what is wrong is named with its value. No torch."""

from __future__ import annotations

import subprocess
import sys
from codecs import BOM_UTF8
from pathlib import Path

import pytest

from statestream.models.cells.options import AutoNCPWiring, CfCOptions
from statestream.models.config import ConfigError, load_config, preset_names
from statestream.models.toml import to_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOML = """
name = "mine"
[data]
path = "data.csv"
target = ["label"]
[cell]
kind = "gru"
units = 8
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return path


def test_every_preset_is_valid() -> None:
    assert {"wrist", "wrist-folds"} <= set(preset_names())
    for name in preset_names():
        assert load_config(name).name == name


def test_a_configuration_written_as_toml_is_the_same(tmp_path: Path) -> None:
    for name in preset_names():
        config = load_config(name)
        (tmp_path / f"{name}.toml").write_text(config.to_toml())
        assert load_config(tmp_path / f"{name}.toml") == config


def test_any_values_are_written_as_toml() -> None:
    values = {
        "text": 'a "b" \\ ü\n',
        "numbers": [1, 2.5, 1e-05, -3],
        "yes": True,
        "rows": [{"kind": "s5", "units": 8}, {"wiring": {"kind": "full"}, "none": None}],
        "a table": {"x.y": 1, "inner": {"z": []}, "empty": {}},
    }
    read = tomllib.loads(to_toml(values))
    assert read == {**values, "rows": [{"kind": "s5", "units": 8}, {"wiring": {"kind": "full"}}]}
    assert to_toml({"segment": None}) == "# segment is not set\n"


def test_recordings_are_relative_to_the_file_that_names_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config(path).data.path == path.parent / "data.csv"
    assert load_config(path, ["data.path=here.csv"]).data.path == Path("here.csv")
    merged = "\n".join(["[[data.merge]]", 'path = "wheels.csv"', "[[data.merge]]", 'path = "/logs/gps.csv"'])
    path.write_text(TOML.replace('target = ["label"]', 'target = ["label"]\nmissing = "hold"') + merged)
    assert [source.path for source in load_config(path).data.merge] == [
        path.parent / "wheels.csv",
        Path("/logs/gps.csv"),
    ]
    monkeypatch.chdir(path.parent)
    assert load_config("mine.toml").data.path == Path("data.csv")


def test_overrides_reach_every_depth(path: Path) -> None:
    config = load_config(
        path,
        ["cell.kind=cfc", "cell.wiring.kind=auto_ncp", "cell.wiring.units=16", "cell.wiring.outputs=4",
         "training.learning_rate=0.5", "split.test_groups=[1, 'b']", "training.augment.keep_rows=[0.5, 1]",
         "name=other"],
    )  # fmt: skip
    assert config.name == "other"
    assert isinstance(config.cell, CfCOptions)
    assert config.cell.wiring == AutoNCPWiring(kind="auto_ncp", units=16, outputs=4)
    assert config.training.learning_rate == 0.5
    assert config.split.test_groups == (1, "b")
    assert config.training.augment.keep_rows == (0.5, 1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", r"training\.epoch: there is no such field; did you mean 'epochs'\? \(got 3\)"),
        ("cell.unit=3", r"mine\.toml: cell\.unit: there is no such field of kind 'gru'; did you mean 'units'\?"),
        ("cell.nothing_like_it=3", r"cell\.nothing_like_it: there is no such field of kind 'gru' \(got 3\)"),
        ("cell={kind='encoded', encoder={kind='spectral', rangehz=[1]}}", r": cell\.encoder\.rangehz: .* 'range_hz'"),
        ("cell={kind='stack', layers=['gru', 'lru2']}", r": cell\.layers\.1: there is no kind 'lru2'; .*mean 'lru'\?"),
        ("training.epochs=many", r"training\.epochs: .*got 'many'"),
        ("training.epochs=0", r"training\.epochs: .*got 0"),
        ("cell.kind=rnn", r"cell: .*'rnn'"),
        ("cell.mode=pure", r"cell\.mode: there is no such field of kind 'gru'.* \(got 'pure'\)"),
        ("split.test=1.5", r"split\.test: .*got 1\.5"),
        ("data.dataset=watch", "set either data.dataset or data.path"),
        ("colour.of=blue", "colour"),
        ("name.x=1", "'name' is a value, not a section"),
        ("epochs", r"expected section\.key=value"),
    ],
)
def test_bad_fields_are_named(path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(path, [override])


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no preset 'wirst' .*presets: .*wrist"):
        load_config("wirst")
    with pytest.raises(ConfigError, match="cannot read it"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load_config(tmp_path / "bad.toml")


def test_nothing_that_an_edge_device_needs_imports_torch() -> None:
    modules = ("spec", "bundle", "export.onnx_scan", "config", "data.recordings", "training.splits", "data.registry")
    code = "\n".join(f"import statestream.models.{m}" for m in modules)
    code += "\nimport sys; print([m for m in ('torch', 'lightning', 'pyarrow', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_byte_order_mark_is_no_part_of_a_file(path: Path) -> None:
    path.write_bytes(BOM_UTF8 + path.read_bytes())
    assert load_config(path).name == "mine"
    path.write_text(TOML, encoding="utf-16")
    with pytest.raises(ConfigError, match=r"mine\.toml: byte 0 is not UTF-8; save the file as UTF-8"):
        load_config(path)
