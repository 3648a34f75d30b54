"""Conversion between stream messages and numpy columns."""

from __future__ import annotations

import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.protocol.verdict import NO_OUTPUT
from statestream.service.serving.result_batch import results_message
from statestream.service.sessions.output_log import SettledRows


def unacknowledged(known: SettledRows, channel: int, epoch: int, wanted: tuple[str, ...]) -> pb.Results:
    """Unacknowledged results of a resumed session, to be sent again."""
    out, n = known.out[known.out != NO_OUTPUT], known.n
    columns = [(name, known.outputs[name][out].tobytes()) for name in wanted] if len(out) else []
    seq, verdict, dt_s = known.seq.tolist(), known.verdict.tolist(), known.dt_s.tolist()
    return results_message([channel] * n, seq, verdict, dt_s, [epoch] * n, columns).results


def select_rows(steps: pb.Steps, keep: list[int], row_flag_skip: int) -> pb.Steps:
    """Select the rows `keep` of a message. Columns that do not divide evenly among the rows stay as they are."""
    skipped = [bool(flag & row_flag_skip) for flag in steps.flags] or [False] * len(steps.channel)
    place = np.cumsum([not skip for skip in skipped]) - 1
    with_data = sum(not skip for skip in skipped)
    columns = []
    for column in steps.columns:
        size, rest = divmod(len(column.data), with_data) if with_data else (0, 1)
        kept = [place[row] for row in keep if not skipped[row]]
        parts = [column.data[row * size : (row + 1) * size] for row in kept]
        whole = rest or len(column.frames) not in (0, with_data)
        frames = column.frames if whole or not column.frames else [column.frames[row] for row in kept]
        columns.append(pb.Column(name=column.name, data=column.data if rest else b"".join(parts), frames=frames))
    return pb.Steps(
        channel=[steps.channel[row] for row in keep],
        seq=[steps.seq[row] for row in keep],
        timestamp_ns=[steps.timestamp_ns[row] for row in keep] if steps.timestamp_ns else [],
        flags=[steps.flags[row] for row in keep] if steps.flags else [],
        budget_us=[steps.budget_us[row] for row in keep] if steps.budget_us else [],
        columns=columns,
    )
