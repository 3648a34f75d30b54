"""The server with a stopwatch on the parts of a step: `python -m tests.bench.instrumented FILE serve …`.

Each part's time is its own, without that of the parts it calls; microseconds a step are written to FILE in the end.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from statestream.service import cli

os.environ.setdefault("GRPC_EXPERIMENTS", cli.GRPC_EXPERIMENTS)

from statestream.service.batching import batcher
from statestream.service.batching.results import Results, TurnResults
from statestream.service.batching.single_row import SingleResult
from statestream.service.engine import onnx as engine
from statestream.service.serving import router, runner
from statestream.service.serving.stats import ModelStats
from statestream.service.streams import decoding, encoding, stream
from statestream.service.transports.grpc import inference as servicer

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "parse the message": ((servicer, "parsed"), (decoding, "row_message"), (decoding, "message")),
    "judge and queue the row": ((stream.SessionStream, "handle_row"), (stream.SessionStream, "_steps")),
    "plan the turn: order, dt, gather": ((batcher.Batcher, "take"), (batcher.Batcher, "plan")),
    "run the model": ((engine.Graph, "run"),),
    "store states and results": ((batcher.Batcher, "commit"),),
    "plan, store: a row that is alone": ((batcher.single_row, "advance"),),
    "make the reply": (
        (TurnResults, "by_route"),
        (SingleResult, "by_route"),
        (encoding, "results"),
    ),
    "hand it to its stream": ((router.ResultRouter, "deliver"), (runner.ModelRunner, "_turn")),
}
_spent_ns: Counter[str] = Counter()
_inner_ns = [0]
_rows = [0]


def _timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin_ns = perf_counter_ns()
        _inner_ns.append(0)
        try:
            return function(*args, **kwargs)
        finally:
            whole_ns = perf_counter_ns() - begin_ns
            _spent_ns[part] += whole_ns - _inner_ns.pop()
            _inner_ns[-1] += whole_ns

    return timed


def _counted(count: Callable[..., None]) -> Callable[..., None]:
    def counted(stats: ModelStats, results: Results) -> None:
        _rows[0] += results.n
        count(stats, results)

    return counted


def main() -> int:
    for part, places in PARTS.items():
        for owner, name in places:
            setattr(owner, name, _timed(part, getattr(owner, name)))
    ModelStats.after_commit = _counted(ModelStats.after_commit)  # type: ignore[method-assign]
    code = cli.main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({part: ns / _rows[0] / 1e3 for part, ns in _spent_ns.items()}))
    return code


if __name__ == "__main__":
    sys.exit(main())
