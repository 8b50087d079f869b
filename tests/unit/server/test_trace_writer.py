import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.live_world import InMemoryTraces, a_feedback, a_text, a_trace, an_open_trace

from tunewright.errors import StorageError
from tunewright.server.trace_writer import TraceWriter


class CountingTraces(InMemoryTraces):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def write(self, entries):
        super().write(entries)
        self.batches.append(len(entries))


@asynccontextmanager
async def writing(traces, **settings):
    writer = TraceWriter(traces, retry_s=0.01, **settings)
    task = asyncio.create_task(writer.run())
    yield writer
    writer.stop()
    await asyncio.wait_for(task, 5)


def test_what_is_added_together_is_committed_together_in_order():
    traces = CountingTraces()

    async def scene():
        async with writing(traces) as writer:
            for entry in (a_trace(1), a_trace(2), a_text(1), a_feedback()):
                assert writer.add(entry)
            assert writer.num_waiting == 4
            await writer.flush()
            assert writer.num_waiting == 0

    asyncio.run(scene())
    assert traces.batches == [4]
    assert [trace.seq for trace in traces.traces.values()] == [1, 2]
    assert traces.all_feedback and traces.texts


def test_a_closed_trace_takes_the_place_of_the_open_one_that_still_waits():
    traces = CountingTraces()

    async def scene():
        async with writing(traces) as writer:
            writer.add(an_open_trace(1))
            writer.add(an_open_trace(2))
            writer.add(a_trace(1))
            assert writer.trace(a_trace(1).id).status == "ok"
            assert writer.trace("tr_unknown") is None

    asyncio.run(scene())
    assert traces.batches == [2]
    assert [trace.status for trace in traces.traces.values()] == ["ok", "open"]


def test_a_commit_follows_within_fifty_milliseconds():
    async def scene():
        traces = CountingTraces()
        async with writing(traces) as writer:
            writer.add(a_trace(1))
            await asyncio.sleep(0.05)
            return traces.batches

    assert asyncio.run(scene()) == [1]


def test_nothing_is_lost_while_the_store_is_full_and_everything_follows_in_order_when_it_is_back():
    traces = CountingTraces()

    async def scene():
        async with writing(traces) as writer:
            traces.broken = StorageError("disk full")
            writer.add(an_open_trace(1))
            with pytest.raises(StorageError, match="disk full"):
                await writer.flush()
            assert writer.problem == "traces cannot be written: disk full"
            writer.add(a_trace(2))
            writer.add(a_trace(1))
            assert writer.num_waiting == 2
            traces.broken = None
            await writer.flush()
            assert (writer.problem, writer.num_lost) == (None, 0)

    asyncio.run(scene())
    assert [(t.seq, t.status) for t in traces.traces.values()] == [(1, "ok"), (2, "ok")]


def test_only_beyond_the_buffer_are_entries_lost_and_they_are_counted():
    async def scene():
        traces = InMemoryTraces()
        traces.broken = StorageError("read-only")
        async with writing(traces, capacity=2) as writer:
            assert [writer.add(an_open_trace(seq)) for seq in (1, 2, 3)] == [True, True, False]
            assert writer.add(a_trace(2)), "what waits already can still be closed"
            return writer.num_lost, writer.num_waiting

    assert asyncio.run(scene()) == (1, 2)


def test_stopping_writes_what_waits_and_does_not_hang_on_a_broken_store():
    broken, sound = InMemoryTraces(), InMemoryTraces()
    broken.broken = StorageError("disk full")

    async def scene():
        for traces in (broken, sound):
            async with writing(traces) as writer:
                writer.add(a_trace(1))

    asyncio.run(scene())
    assert not broken.traces and len(sound.traces) == 1
