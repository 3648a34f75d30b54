"""Every page of the documentation says at its top who it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GENERATED_OR_BEING_REWRITTEN = {"training-file", "formats", "results", "performance", "robots", "quickstart"}
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.stem not in GENERATED_OR_BEING_REWRITTEN)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_who_it_is_for(page: Path) -> None:
    paragraphs = [text for text in page.read_text().split("\n\n") if not text.startswith("<!--")]
    assert paragraphs[0].startswith("# ")
    assert paragraphs[1].startswith("For people "), paragraphs[1]
