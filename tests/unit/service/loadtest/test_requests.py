"""Messages made from templates hold the rows that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.loadtest.requests import VARIANTS, Messages, acks, row_times
from tests.conftest import leaky_manifest
from tests.support.cameras import SHAPE, camera_manifest, encoded, film, seen


@pytest.mark.parametrize(("channels", "chunk"), [(1, 1), (3, 1), (1, 4), (2, 3), (300, 2)])
def test_messages_hold_the_rows_that_a_rollout_computes(channels: int, chunk: int) -> None:
    messages = Messages(leaky_manifest(), channels=channels, chunk=chunk, seed=1)
    for number in (0, 5, 3 * VARIANTS + 1):
        t_ns = [10**15 + k for k in range(chunk)]
        steps = pb.StreamRequest.FromString(messages.steps(number, 7, t_ns)).steps
        assert list(steps.channel) == np.repeat(np.arange(channels), chunk).tolist()
        assert list(steps.seq) == [number * chunk + k + 1 for k in range(chunk)] * channels
        assert list(steps.timestamp_ns) == t_ns * channels
        x = np.frombuffer(steps.columns[0].data, "<f4").reshape(channels, chunk, 2)
        for channel in range(channels):
            rows = messages.rows(channel, 7, number * chunk, (number + 1) * chunk)
            np.testing.assert_array_equal(x[channel], rows["x"])


def test_pictures_go_out_as_they_are_and_come_back_as_a_model_sees_them() -> None:
    manifest, film_ = camera_manifest(), encoded(film(5))
    messages = Messages(manifest, channels=2, chunk=3, seed=1, frames={"camera": film_})
    sent = pb.StreamRequest.FromString(messages.steps(4, 7, [1, 2, 3])).steps.columns
    columns = {column.name: column for column in sent}
    assert len(np.frombuffer(columns["imu"].data, "<f4")) == 2 * 3 * 2
    assert set(columns["camera"].frames) <= set(film_)
    pixels = seen(list(columns["camera"].frames), manifest.inputs[0]).reshape(2, 3, *SHAPE)
    for channel in (0, 1):
        np.testing.assert_array_equal(pixels[channel], messages.rows(channel, 7, 12, 15)["camera"])


def test_acks_put_before_a_message_are_part_of_it() -> None:
    messages = Messages(leaky_manifest(), channels=2, chunk=1, seed=1)
    request = pb.StreamRequest.FromString(acks(2, 31) + messages.steps(0, 0, [1]))
    assert (list(request.acks.channel), list(request.acks.seq)) == ([0, 1], [31, 31])
    assert list(request.steps.seq) == [1, 1]


def test_rows_of_a_chunk_lie_evenly_between_messages() -> None:
    assert row_times(1000, 1400, 4) == [1100, 1200, 1300, 1400]
    assert row_times(1000, 1400, 1) == [1400]
