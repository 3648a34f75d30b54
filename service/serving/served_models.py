"""Served models: starts a runner for each loaded bundle, and ends them all."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from statestream.models.bundle import Bundle
from statestream.service.batching.batcher import Limits
from statestream.service.batching.native_turn import native_turns
from statestream.service.config import ServerConfig
from statestream.service.engine.onnx import Engine
from statestream.service.serving.frame_decoder import FrameDecoder
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.router import ResultRouter
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.stats import ModelStats

log = logging.getLogger(__name__)


class ServedModels:
    """Runners of one server, and the decoder of images that they share."""

    def __init__(
        self,
        config: ServerConfig,
        clock: Callable[[], float],
        versions: ModelRegistry,
        router: ResultRouter,
        on_load: Callable[[ModelRunner], None] | None = None,
    ) -> None:
        """Prepare. `on_load` is called with each model before it serves, so that observers can attach."""
        self._config = config
        self._clock = clock
        self._versions = versions
        self._router = router
        self._on_load = on_load
        self._decoder = FrameDecoder(config.decode_threads)

    def add(self, bundle: Bundle, engine: Engine) -> ModelRunner:
        """Serve a bundle whose version is not loaded; active if no other version of its name is."""
        limits = Limits(
            credit_rows=self._config.credit_rows,
            max_unacked=self._config.max_unacked,
            max_batch=self._config.max_batch,
            turn_steps=_turn_steps(engine, self._config.max_turn_ms),
            turn_bytes=self._config.max_decoded_bytes,
        )
        runner = ModelRunner(
            bundle,
            engine,
            limits=limits,
            decoder=self._decoder,
            clock=self._clock,
            deliver=self._router.deliver,
            failed=self._router.failed,
        )
        if runner.inline and not bundle.manifest.encoded_inputs:
            runner.batcher.plain_turns = native_turns(engine, runner.batcher)
        runner.attach(ModelStats())
        if self._on_load is not None:
            self._on_load(runner)
        self._versions.add(runner)
        log.info(
            "serving %s on %s%s: %.0f µs a step, %.0f µs a batch of 64, %s, at most %d rows of a session a turn%s",
            bundle.manifest.ref,
            engine.provider,
            ", fused graphs" if engine.fused else "",
            engine.cost.step_s * 1e6,
            engine.cost.batch_s * 1e6,
            "on the loop" if runner.inline else "in a thread",
            limits.turn_steps,
            "" if runner.batcher.plain_turns is None else ", plain turns in C++",
        )
        return runner

    def close(self) -> None:
        """Stop the threads of engines and decoder."""
        for runner in self._versions:
            runner.close()
        self._decoder.close()


def _turn_steps(engine: Engine, max_turn_ms: float) -> int:
    """Rows of a session a turn: a batch of 64 sessions takes about `max_turn_ms`."""
    return int(np.clip(max_turn_ms / 1000 / max(engine.cost.batch_s, 1e-9), 1, 256))
