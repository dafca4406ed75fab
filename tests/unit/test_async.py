"""The async facade: the same answers, awaited; the event loop goes on while a call waits."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import aio
from aeon.store import Store

ONES = np.ones(8)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60), debug=False)


def test_every_call_gives_what_the_store_gives(path: Path) -> None:
    async def work() -> None:
        async with await aeon.aopen(path, 8, durability="normal") as store:
            assert await store.remember("a", ONES, session="s", metadata={"n": 1}) == 1
            assert await store.remember_many(["b", "c"], np.eye(2, 8), keys=["k", None]) == [2, 3]
            hits = await store.recall(ONES, 2, session="s", where={"n": 1})
            assert [(hit.id, hit.text) for hit in hits] == [(1, "a")]
            assert (await store.get(2)).text == "b"
            assert (await store.get_key("k")).id == 2
            assert [m.id for m in await store.history("default", 1)] == [3]
            assert [m.id for m in await store.memories(where={"n": {"$exists": False}})] == [2, 3]
            assert [info.name for info in await store.sessions()] == ["s", "default"]
            assert await store.forget(3) == 1
            assert await store.forget(where={"n": 1}) == 1
            assert await store.flush() == 4
            assert await store.checkpoint() == 1
            assert await store.refresh() == 4
            assert (await store.check()).ok
            assert (await store.stats()).memories == 1
            assert store.store.lsn == 4

    run(work)


def test_it_lacks_no_method_of_the_store() -> None:
    sync_only = {"transaction"}  # `transact` stands for it: a block cannot be held across awaits on one thread
    names = {name for name, member in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    for name in names - sync_only:
        assert inspect.iscoroutinefunction(getattr(aio.AsyncStore, name)), name
    assert inspect.iscoroutinefunction(aio.AsyncStore.transact)


def test_the_graph_and_the_vector_layer_are_awaited_too(path: Path) -> None:
    async def work() -> None:
        async with await aeon.aopen(path, 8, durability="normal") as store:
            a, b = await store.remember_many(["a", "b"], np.eye(2, 8))
            await store.link(b, a, "causes")
            assert await store.trace.neighbours(b) == store.store.trace.neighbours(b) != []
            assert [hit.id for hit in await store.trace.search(np.eye(8)[1], 1)] == [b]
            ids, _ = await store.atlas.search(np.eye(8)[0], 1)
            assert ids[0].tolist() == [a] and store.atlas.dim == 8 and "neighbours" in dir(store.trace)
            with pytest.raises(aeon.NotFoundError):
                await store.trace.neighbours(99)
            with pytest.raises(AttributeError):
                await store.trace.nonsense()
            thread = []
            await store.trace._run(lambda: thread.append(threading.current_thread()))
            assert thread[0] is not threading.main_thread()

    run(work)


def test_the_loop_goes_on_while_calls_wait(path: Path) -> None:
    """Each call is held until the loop has run something else: were the loop blocked, it would never be let go."""
    ticks = 0

    async def work() -> None:
        nonlocal ticks
        loop = asyncio.get_running_loop()

        def wait_for_the_loop(texts: list[str]) -> Any:
            ran = threading.Event()
            loop.call_soon_threadsafe(ran.set)
            assert ran.wait(30), "the event loop did not run"
            nonlocal ticks
            ticks += 1
            return np.ones((len(texts), 8))

        wait_for_the_loop.name = "waits"  # type: ignore[attr-defined]
        store = await aeon.aopen(path, embed=wait_for_the_loop, durability="normal")
        await store.remember("a")
        await store.remember_many(["b", "c"])
        await store.recall("d")
        await store.transact(lambda inner: inner.remember("e"))
        await store.close()

    run(work)
    assert ticks == 5


@pytest.mark.parametrize("call", ["flush", "checkpoint", "check", "stats", "sessions", "refresh", "close"])
def test_the_loop_goes_on_while_the_store_is_busy(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        store = await aeon.aopen(path, 8, durability="normal")
        loop = asyncio.get_running_loop()
        original = getattr(Store, call)

        def wait_for_the_loop(self: Store) -> Any:
            ran = threading.Event()
            loop.call_soon_threadsafe(ran.set)
            assert ran.wait(30), "the event loop did not run"
            return original(self)

        with monkeypatch.context() as patch:
            patch.setattr(Store, call, wait_for_the_loop)
            await getattr(store, call)()
        await store.close()

    run(work)


def test_concurrent_callers_share_the_store(path: Path) -> None:
    async def work() -> None:
        async with await aeon.aopen(path, 8) as store:
            ids = await asyncio.gather(*(store.remember(f"text {n}", ONES, session=f"s{n % 3}") for n in range(60)))
            assert sorted(ids) == list(range(1, 61))
            texts = {id_: (await store.get(id_)).text for id_ in ids}
            assert texts == {id_: f"text {n}" for n, id_ in enumerate(ids)}

    run(work)


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    async def work() -> None:
        async with await aeon.aopen(path, 8, durability="normal") as store:

            def good(inner: Store) -> list[int]:
                return [inner.remember("a"), inner.remember("b")]

            def bad(inner: Store) -> None:
                inner.remember("c")
                raise LookupError("changed my mind")

            assert await store.transact(good) == [1, 2]
            with pytest.raises(LookupError):
                await store.transact(bad)
            assert [m.text for m in await store.history()] == ["a", "b"]

    run(work)


def test_errors_come_through(path: Path) -> None:
    async def work() -> None:
        async with await aeon.aopen(path, 8, durability="normal") as store:
            with pytest.raises(aeon.DimensionError):
                await store.remember("a", [1.0])
            with pytest.raises(aeon.NotFoundError):
                await store.get(1)
            with pytest.raises(aeon.LockedError):
                await aeon.aopen(path, 8)
        with pytest.raises(aeon.NotAStoreError):
            await aeon.aopen(path / "nowhere" / "store", 8)

    run(work)


def test_after_close(path: Path) -> None:
    async def work() -> None:
        store = await aeon.aopen(path, 8, durability="normal")
        await store.remember("a", ONES)
        hits = await store.recall(ONES)
        await asyncio.gather(store.close(), store.close())
        await store.close()
        assert hits[0].text == "a"
        calls: list[Callable[[], Any]] = [
            lambda: store.remember("b"), lambda: store.recall(ONES), lambda: store.get(1), store.history, store.sessions,
            store.flush, store.checkpoint, store.check, store.stats, lambda: store.transact(lambda inner: None),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(aeon.ClosedError):
                await call()
        aeon.open(path).close()

    run(work)


def test_closing_waits_for_writers_under_way(path: Path, hooked_files: Any) -> None:
    async def work() -> None:
        store = await aeon.aopen(path, 8)
        results = await asyncio.gather(
            *(store.remember(f"{n}") for n in range(20)), store.close(), *(store.remember("late") for _ in range(3)),
            return_exceptions=True,
        )  # fmt: skip
        kept = [result for result in results if isinstance(result, int)]
        assert all(isinstance(result, (int, aeon.ClosedError, type(None))) for result in results), results
        with aeon.open(path) as again:
            assert [m.id for m in again.history()] == sorted(kept)

    run(work)


def test_context_variables_reach_the_embedder(path: Path) -> None:
    import contextvars

    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    seen = []

    def embed(texts: list[str]) -> Any:
        seen.append(tenant.get())
        return np.ones((len(texts), 8))

    async def work() -> None:
        async with await aeon.aopen(path, embed=embed, durability="normal") as store:
            tenant.set("acme")
            await store.remember("a")

    run(work)
    assert seen[-1] == "acme"


def test_a_coroutine_function_is_no_transaction(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        store.remember("never")

    async def run() -> None:
        async with await aeon.aopen(tmp_path / "agent.aeon") as store:
            with pytest.raises(aeon.InvalidInputError, match="a plain function"):
                await store.transact(work)
            assert await store.history() == []

    asyncio.run(run())
