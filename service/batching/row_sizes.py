"""Row sizes: bytes that a row of each input has, and messages checked by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from statestream.models.spec import BoolArray, InputSpec


class RowSizes:
    """Sizes of a model's inputs, which tell whether a message's columns fit."""

    def __init__(self, inputs: tuple[InputSpec, ...]) -> None:
        self.by_name = {spec.name: spec.row_bytes for spec in inputs}
        """Of every input, in the manifest's order."""
        self._raw = {spec.name: spec for spec in inputs if spec.encoding == "raw"}

    def split(self, columns: Iterable[tuple[str, bytes]], rows: int) -> tuple[dict[str, bytes], str]:
        """Collect each raw input's bytes of `rows` rows, and any problem."""
        data: dict[str, bytes] = {}
        problem = ""
        for name, part in columns:
            spec = self._raw.get(name)
            if spec is None:
                problem = f"steps.columns: {self._no_data(name)}"
            elif name in data:
                problem = f"steps.columns: '{name}' is given twice"
            elif len(part) != rows * spec.row_bytes:
                problem = (
                    f"steps.columns['{name}']: {len(part)} bytes for {rows} rows; expected "
                    f"{rows * spec.row_bytes}, each row {spec.row_bytes} bytes ({spec.dtype} {list(spec.shape)})"
                )
            data[name] = part
        if not problem and rows and len(data) < len(self._raw):
            missing = next(name for name in self._raw if name not in data)
            problem = f"steps.columns: input '{missing}' is missing"
        return data, problem

    def zeros(self, rows: int) -> dict[str, bytes]:
        """Data of rows without any."""
        return {name: bytes(rows * spec.row_bytes) for name, spec in self._raw.items()}

    def spread(self, data: Mapping[str, bytes], has_data: BoolArray) -> dict[str, bytes]:
        """Expand data to all rows, with zeros for those without."""
        spread = {}
        for name, part in data.items():
            row_bytes = self.by_name[name]
            whole = np.zeros((len(has_data), row_bytes), np.uint8)
            whole[has_data] = np.frombuffer(part, np.uint8).reshape(-1, row_bytes)
            spread[name] = whole.tobytes()
        return spread

    def _no_data(self, name: str) -> str:
        """Why data of this name cannot be used."""
        if name in self.by_name:
            return f"input '{name}' takes frames, got data"
        names = ", ".join(f"'{each}'" for each in self.by_name)
        return f"the model has no input '{name}'; its inputs are {names}"
