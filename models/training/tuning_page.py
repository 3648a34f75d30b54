"""Page of a study, its `report.html`: the trials, their scores by setting, and the best."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from statestream.models.config import Config
from statestream.models.training import plots
from statestream.models.training.report_page import document, facts_table, wide
from statestream.models.training.search_space import Tried, setting_text, settings_text


def tuning_page(config: Config, tried: Sequence[Tried], best: Tried | None, score: str, command: str) -> str:
    """Build the page.

    Args:
        score: name of the score that ranks trials.
    """
    names = list(dict.fromkeys(name for each in tried for name in each.settings))
    facts = {"trials": f"{len(tried)}, of which {sum(each.pruned for each in tried)} pruned"}
    facts["trained"] = f"{sum(each.seconds for each in tried) / 60:.1f} min"
    if best is not None:
        facts["best"] = f"trial {best.number}, validation {score} {best.score:.4g}: {settings_text(best.settings)}"
    facts |= {"command": command} if command else {}
    parts = [facts_table(facts), "<p>Scores are of the validation split; the test split is not scored.</p>"]
    if tried:
        parts += ["<h2>Score by trial and by setting</h2>", plots.as_svg(plots.plot_trials(tried, names, score))]
        parts += ["<h2>Trials</h2>", wide(_table(tried, best, names, score))]
    return document(f"Tuning of {config.name}", parts)


def _table(tried: Sequence[Tried], best: Tried | None, names: Sequence[str], score: str) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("trial", score, *names, "epochs", "seconds", ""))
    rows = "".join(_row(each, names, each.number == (best and best.number)) for each in tried)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _row(each: Tried, names: Sequence[str], is_best: bool) -> str:
    cells = [str(each.number), f"{each.score:.4g}", *(setting_text(each.settings.get(name, "")) for name in names)]
    cells += [str(each.epochs), f"{each.seconds:.0f}", "pruned" if each.pruned else "best" if is_best else ""]
    mark = ' class="best"' if is_best else ""
    return f"<tr>{''.join(f'<td{mark}>{escape(cell)}</td>' for cell in cells)}</tr>"
