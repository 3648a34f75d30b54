"""Random operations on stores, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from statestream.service.durability.stores.base import Claim, Label, Save
from statestream.service.sessions.snapshot import sealed

IDS = st.sampled_from(["a", "b", "é:*?'", "d" * 250])
SERVERS = st.sampled_from(["one", "two"])
EPOCHS = st.integers(0, 4)
SNAPSHOTS = st.sampled_from([sealed(b"\0snapshot\xff"), sealed(b"another"), sealed(b"x" * 5000)])
SEQS = st.sampled_from([0, 1, 2**53 - 1])

LABELS = st.sampled_from([None, Label("", "leaky"), Label("ann\0 é", "leaky"), Label("ben", "m" * 200)])

claims = st.builds(Claim, IDS, EPOCHS, st.integers(1, 5), SEQS, st.one_of(st.just(b""), SNAPSHOTS), LABELS)
saves = st.builds(Save, IDS, st.integers(1, 5), SEQS, st.booleans(), SNAPSHOTS, LABELS)


def few(of: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(of, min_size=1, max_size=3)


# Times are so long or so negative that no clock's pace matters.
operations = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.tuples(few(IDS))),
        st.tuples(st.just("claim"), st.tuples(SERVERS, few(claims))),
        st.tuples(st.just("save"), st.tuples(SERVERS, few(saves), st.sampled_from([1000.0, 0.0, None]))),
        st.tuples(st.just("end"), st.tuples(few(st.tuples(IDS, EPOCHS)))),
        st.tuples(st.just("expire"), st.tuples(st.sampled_from([1000.0, -10.0]), st.just(1000.0))),
        st.tuples(st.just("count"), st.tuples()),
        st.tuples(st.just("close"), st.tuples()),
    ),
    max_size=25,
)
