from collections.abc import Callable
from typing import Any, TypeAlias

Buffer: TypeAlias = Any
"""Bytes, or a contiguous array."""
Shape: TypeAlias = tuple[int, ...]

class Session:
    def __init__(self, path: str) -> None: ...
    @property
    def inputs(self) -> list[tuple[str, int, list[int | str | None]]]: ...
    @property
    def outputs(self) -> list[tuple[str, int, list[int | str | None]]]: ...
    def run(
        self, inputs: tuple[tuple[str, int, Shape, Buffer], ...], outputs: tuple[str, ...], options: RunOptions = ...
    ) -> list[tuple[int, Shape, bytearray]]: ...

class RunOptions:
    terminate: bool
    def __init__(self, session: Session) -> None: ...

class Turns:
    def __init__(
        self,
        step: Session,
        chunk: Session,
        inputs: tuple[tuple[str, int, Shape, bool], ...],
        outputs: tuple[tuple[str, int, Shape], ...],
        states: tuple[tuple[str, int, Shape], ...],
        time: tuple[float, float, float],
        limits: tuple[int, int, int, int],
        clock: Callable[[], float],
    ) -> None: ...
    def bind(self, columns: tuple[Buffer, ...]) -> None: ...
    def run(
        self,
        slot: Buffer,
        seq: Buffer,
        t_ns: Buffer,
        received_s: Buffer,
        due_s: Buffer | None,
        data: tuple[Buffer, ...],
    ) -> (
        tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes | None, tuple[bytes, ...], int, float, float, float]
        | None
    ): ...
