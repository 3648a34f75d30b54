"""docs/architecture.md says what is there: its layers are those that are held, its answers name files that exist."""

from __future__ import annotations

import re

from tests.unit.test_import_rules import LAYERS, ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = PAGE.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return lines[2:]


def test_the_table_of_layers_is_the_one_that_is_held() -> None:
    said = {int(number): set(re.findall(r"`(\w+)`", packages)) for number, packages, _ in rows("Layers of the server")}
    assert said == {number: set(packages) for number, packages in enumerate(LAYERS, 1)}


def test_twelve_answers_name_files_that_exist() -> None:
    answers = [re.findall(r"`([\w/.]+)`", cells[-1]) for cells in rows("Where would I change …")]
    assert len(answers) == 12
    for (path,) in answers:
        assert (ROOT / path).is_file(), path


def test_every_file_that_the_page_names_exists() -> None:
    text = PAGE.split("## Where would I change")[0]
    folders = [ROOT, ROOT / "service", ROOT / "service/batching", ROOT / "service/sessions", ROOT / "models"]
    for path in set(re.findall(r"`([\w/]+\.py)`", text)):
        assert any((folder / path).is_file() for folder in folders), path
