"""Whatever is done to them, the trace store in memory and the one on disk answer the same."""

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import START
from tests.live_world import KEYS, InMemoryTraces, a_feedback, a_text, a_trace

from tunewright.backends.sql_traces import open_traces
from tunewright.errors import UnknownReference
from tunewright.values import Ref

ROLLOUT = Ref("shop", 1)
NUMBERS = st.integers(1, 4)
TIMES = st.integers(-2, 12).map(lambda hours: START + timedelta(hours=hours))
ENTRIES = st.one_of(
    st.builds(
        lambda n, status, rollout, until: a_trace(n, status=status, rollout=rollout, retain_until=until),
        NUMBERS,
        st.sampled_from(["open", "ok", "error"]),
        st.sampled_from([None, ROLLOUT]),
        TIMES,
    ),
    st.builds(lambda n, until: a_text(n, expires_at=until), NUMBERS, TIMES),
    st.builds(
        lambda n, trace, author, kind: a_feedback(
            id=f"fb_{n:032x}", trace=a_trace(trace).id, author=f"{author:032x}", kind=kind
        ),
        st.integers(1, 12),
        NUMBERS,
        st.integers(1, 2),
        st.sampled_from(["thumb", "edit"]),
    ),
)
STEPS = st.one_of(
    st.lists(ENTRIES, max_size=4).map(lambda entries: ("write", entries)),
    st.integers(1, 12).map(lambda n: ("review", f"fb_{n:032x}")),
    TIMES.map(lambda at: ("interrupt_open", at)),
    TIMES.map(lambda at: ("expire", at)),
)


def do(store, step: tuple[str, object]):
    name, value = step
    try:
        if name == "write":
            return store.write(value)
        if name == "review":
            return store.review(value, "approved", reviewer="ann", note="", at=START)
        return store.interrupt_open(value) if name == "interrupt_open" else store.expire(value)
    except UnknownReference:
        return "unknown"


def everything(store) -> list[object]:
    words = [*store.feedback(), *store.feedback(status="superseded")]
    return [
        list(store.newest()),
        list(store.of_rollout(ROLLOUT)),
        words,
        list(store.feedback(rollout=ROLLOUT)),
        [list(store.reviews(one.id)) for one in words],
        [store.text(a_trace(n).id, START) for n in range(1, 5)],
        store.last_seq(),
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_whatever_is_done_both_stores_answer_the_same(steps):
    with tempfile.TemporaryDirectory() as folder:
        memory, sqlite = InMemoryTraces(), open_traces(Path(folder) / "traces.db", KEYS)
        try:
            for step in steps:
                assert do(memory, step) == do(sqlite, step)
                assert everything(memory) == everything(sqlite)
        finally:
            sqlite.close()
