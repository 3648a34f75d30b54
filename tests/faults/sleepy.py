"""A server whose model `other` sleeps 50 ms a turn: `python -m tests.faults.sleepy REPOSITORY PORT`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from statestream.service.config import ServerConfig
from statestream.service.engine import onnx as engine
from statestream.service.server.server import serve

SLEEP_S = 0.05


def main() -> None:
    run = engine.Engine.step, engine.Engine.chunk

    def sleepy(original: Any) -> Any:
        def call(self: engine.Engine, *arguments: Any) -> Any:
            if self.manifest.name == "other":
                time.sleep(SLEEP_S)
            return original(self, *arguments)

        return call

    engine.Engine.step, engine.Engine.chunk = sleepy(run[0]), sleepy(run[1])  # type: ignore[method-assign]
    repository, port = sys.argv[1:]
    config = ServerConfig(repository=Path(repository), address=f"127.0.0.1:{port}", providers=("cpu",))
    asyncio.run(serve(config))


if __name__ == "__main__":
    main()
