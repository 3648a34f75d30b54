"""Compatibility checks between two versions of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statestream.models.spec import Manifest, TensorSpec
from statestream.service.errors import FailedPrecondition


def check_same_state(old: Manifest, new: Manifest) -> None:
    """Check that `new` can continue sessions of `old`: same interface and same states.

    Raises:
        FailedPrecondition: it cannot; the message has the reason.
    """
    check_same_interface(old, new)
    if old.state_hash != new.state_hash:
        raise FailedPrecondition(
            f"the states of {new.ref} ({_states(new)}) are not those of {old.ref} ({_states(old)})", field="states"
        )


def check_same_interface(old: Manifest, new: Manifest) -> None:
    """Check that clients of `old` can use `new`: same inputs, and at least the same outputs.

    Raises:
        FailedPrecondition: they cannot; the message has the reason.
    """
    mine, theirs = _meanings(new.inputs), _meanings(old.inputs)
    if mine != theirs:
        name = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))[0]
        raise FailedPrecondition(_differ("input", name, old, new, theirs, mine), field="inputs")
    mine, theirs = _meanings((*new.outputs, *new.aux)), _meanings((*old.outputs, *old.aux))
    for name, meaning in theirs.items():
        if mine.get(name) != meaning:
            raise FailedPrecondition(_differ("output", name, old, new, theirs, mine), field="outputs")


def _meanings(tensors: Sequence[TensorSpec]) -> dict[str, dict[str, Any]]:
    """What clients depend on in each tensor, by name: all fields but `std`, which only sets tolerances."""
    return {t.name: t.model_dump(exclude={"name", "std"}) for t in tensors}


def _differ(
    kind: str,
    name: str,
    old: Manifest,
    new: Manifest,
    theirs: dict[str, dict[str, Any]],
    mine: dict[str, dict[str, Any]],
) -> str:
    if name not in mine:
        return f"{new.ref} has no {kind} '{name}', which {old.ref} has"
    if name not in theirs:
        return f"{new.ref} has an {kind} '{name}', which {old.ref} does not have"
    field = next(f for f, value in mine[name].items() if theirs[name].get(f) != value)
    return f"{kind} '{name}': {field} is {mine[name][field]!r} in {new.ref}, {theirs[name].get(field)!r} in {old.ref}"


def _states(manifest: Manifest) -> str:
    return ", ".join(f"{s.name} {list(s.shape)} {s.dtype}" for s in manifest.states) or "none"
