"""Reads one recording as `train` does, and judges what came of it."""

from __future__ import annotations

import os
import shutil
import traceback
from pathlib import Path

import numpy as np

from statestream.models.data.formats import columns_at, reader_of
from statestream.models.data.recordings import Dataset, read_dataset
from statestream.models.data.tables import DataError
from tests.fuzz_files.outcomes import FAULT, READ, REFUSED, Outcome
from tests.fuzz_files.seeds import Seed


def attempt(seed: Seed, path: Path) -> Outcome:
    """Read a recording; an error other than a DataError with the name of the file is our fault."""
    try:
        reader_of(path)
        columns_at(path)
        problem = _problem(read_dataset(path, seed.columns, classes=seed.classes, frame=seed.frame))
        return Outcome(FAULT, problem) if problem else Outcome(READ)
    except DataError as error:
        named = str(path.parent) in str(error)
        return Outcome(REFUSED if named else FAULT, str(error) if named else f"no file is named: {error}")
    except Exception:
        return Outcome(FAULT, traceback.format_exc())
    finally:
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def _problem(dataset: Dataset) -> str:
    """What is not as training expects it; empty: nothing."""
    for each in dataset.recordings:
        rows = len(each.t_ns)
        if each.t_ns.dtype != np.int64 or each.t_ns.ndim != 1 or not rows or (np.diff(each.t_ns) < 0).any():
            return f"times of '{each.id}': {each.t_ns.dtype} {each.t_ns.shape}"
        if len(each.features) != rows or each.features.dtype not in (np.float32, np.uint8):
            return f"features of '{each.id}': {each.features.dtype} {each.features.shape} for {rows} rows"
        if each.features.dtype == np.float32 and not np.isfinite(each.features).all():
            return f"features of '{each.id}' are not finite"
        if each.target is not None and len(each.target) != rows:
            return f"target of '{each.id}': {each.target.shape} for {rows} rows"
    return ""
