"""The async facade: every call runs on a thread of the store's own pool, so the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aeon.errors import InvalidInputError
from aeon.pin import Pin
from aeon.results import BackupReport, CheckReport, CompactReport, DreamReport, Hit, Memory, SessionInfo, Stats
from aeon.store import Store

_P = ParamSpec("_P")
_T = TypeVar("_T")

THREADS = 8  # enough for commits to share syncs; the store's locks serialise the rest


class Awaited:
    """A view of the store whose methods are awaited: `await store.trace.neighbours(3)`. Attributes are those of the view."""

    def __init__(self, run: Callable[..., Any], view: Any) -> None:
        self._run, self._view = run, view

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._view, name)
        return partial(self._run, found) if callable(found) else found

    def __dir__(self) -> list[str]:
        return dir(self._view)


class AsyncStore:
    """A `Store` for async callers: the same methods, awaited. Made by `aeon.aopen`; also an async context manager.

    `store` is the store itself, for what is cheap enough to call directly.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="aeon")
        self._closed = False

    async def _run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._closed:  # nothing is left to wait for: a closed store raises ClosedError at once
            return call(*args, **kwargs)
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(context.run, call, *args, **kwargs))

    @property
    def trace(self) -> Awaited:
        """See `Store.trace`: each of its methods, awaited."""
        return Awaited(self._run, self.store.trace)

    @property
    def atlas(self) -> Awaited:
        """See `Store.atlas`: each of its methods, awaited."""
        return Awaited(self._run, self.store.atlas)

    async def remember(self, text: str, vector: Any = None, **options: Any) -> int:
        """See `Store.remember`. A cancelled call may still commit."""
        return await self._run(self.store.remember, text, vector, **options)

    async def remember_many(self, texts: Any, vectors: Any = None, **options: Any) -> list[int]:
        """See `Store.remember_many`."""
        return await self._run(self.store.remember_many, texts, vectors, **options)

    async def recall(self, query: Any, k: int = 10, **options: Any) -> list[Hit]:
        """See `Store.recall`. The hits' texts are read when asked for: from memory or the page cache."""
        return await self._run(self.store.recall, query, k, **options)

    async def get(self, id_: int) -> Memory:
        """See `Store.get`."""
        return await self._run(self.store.get, id_)

    async def get_key(self, key: str, namespace: Any = ()) -> Memory | None:
        """See `Store.get_key`."""
        return await self._run(self.store.get_key, key, namespace)

    async def forget(self, ids: Any = None, **options: Any) -> int:
        """See `Store.forget`."""
        return await self._run(self.store.forget, ids, **options)

    async def history(
        self, session: str = "default", limit: int | None = 100, before: int | None = None, *, as_of: Any = None
    ) -> list[Memory]:
        """See `Store.history`."""
        return await self._run(self.store.history, session, limit, before, as_of=as_of)

    async def link(self, src: int, dst: Any, kind: str, *, acyclic: bool | None = None) -> int:
        """See `Store.link`."""
        return await self._run(self.store.link, src, dst, kind, acyclic=acyclic)

    async def unlink(self, src: int, dst: Any, kind: str) -> int:
        """See `Store.unlink`."""
        return await self._run(self.store.unlink, src, dst, kind)

    async def branch(self, event_id: int, new_session: str) -> str:
        """See `Store.branch`."""
        return await self._run(self.store.branch, event_id, new_session)

    async def backtrack(self, session: str = "default", n: int = 1) -> Memory:
        """See `Store.backtrack`."""
        return await self._run(self.store.backtrack, session, n)

    async def diff(self, a: str, b: str) -> tuple[Memory | None, list[Memory], list[Memory]]:
        """See `Store.diff`."""
        return await self._run(self.store.diff, a, b)

    async def history_of(self, what: int | str, namespace: Any = ()) -> list[Memory]:
        """See `Store.history_of`."""
        return await self._run(self.store.history_of, what, namespace)

    async def concept(self, name: str, vector: Any = None, *, namespace: Any = ()) -> int:
        """See `Store.concept`."""
        return await self._run(self.store.concept, name, vector, namespace=namespace)

    async def archive(self, ids: Any, *, by: int | None = None) -> int:
        """See `Store.archive`."""
        return await self._run(self.store.archive, ids, by=by)

    async def restore(self, ids: Any) -> int:
        """See `Store.restore`."""
        return await self._run(self.store.restore, ids)

    async def consolidate(self, ids: Any = None, **options: Any) -> int:
        """See `Store.consolidate`."""
        return await self._run(self.store.consolidate, ids, **options)

    async def undo(self, summary: int) -> list[int]:
        """See `Store.undo`."""
        return await self._run(self.store.undo, summary)

    async def fold(self, duplicates: Any) -> int:
        """See `Store.fold`."""
        return await self._run(self.store.fold, duplicates)

    async def dream(self, **options: Any) -> DreamReport:
        """See `Store.dream`."""
        return await self._run(lambda: self.store.dream(**options))

    async def memories(self, **filters: Any) -> list[Memory]:
        """See `Store.memories`; as a list, in one go."""
        return await self._run(lambda: list(self.store.memories(**filters)))

    async def sessions(self) -> list[SessionInfo]:
        """See `Store.sessions`."""
        return await self._run(self.store.sessions)

    async def transact(self, work: Callable[[Store], _T]) -> _T:
        """Run `work(store)` inside a transaction on one thread, and return what it returns; see `Store.transaction`.

        work : a plain function; a coroutine function would only begin after the transaction, and is refused.
        """
        if inspect.iscoroutinefunction(work):
            raise InvalidInputError("transact takes a plain function: it runs on a thread, inside the transaction")

        def run() -> _T:
            with self.store.transaction() as store:
                return work(store)

        return await self._run(run)

    async def pin(self) -> Pin:
        """See `Store.pin`; what the pin reads is read at once, on the caller's thread."""
        return self.store.pin()

    async def flush(self) -> int:
        """See `Store.flush`."""
        return await self._run(self.store.flush)

    async def checkpoint(self) -> int:
        """See `Store.checkpoint`."""
        return await self._run(self.store.checkpoint)

    async def compact(self, *, purge: bool = False) -> CompactReport:
        """See `Store.compact`."""
        return await self._run(self.store.compact, purge=purge)

    async def refresh(self) -> int:
        """See `Store.refresh`."""
        return await self._run(self.store.refresh)

    async def check(self) -> CheckReport:
        """See `Store.check`."""
        return await self._run(self.store.check)

    async def backup(self, dest: Any) -> BackupReport:
        """See `Store.backup`."""
        return await self._run(self.store.backup, dest)

    async def stats(self) -> Stats:
        """See `Store.stats`."""
        return await self._run(self.store.stats)

    async def close(self) -> None:
        """See `Store.close`; waits for the calls under way."""
        await self._run(self.store.close)
        self._closed = True
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> AsyncStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def aopen(path: Any, dim: int | None = None, **options: Any) -> AsyncStore:
    """Open a store for async callers, without blocking the event loop; parameters and errors as in `aeon.open`."""
    from aeon.opening import open_store

    loop = asyncio.get_running_loop()
    return AsyncStore(await loop.run_in_executor(None, partial(open_store, path, dim, **options)))
