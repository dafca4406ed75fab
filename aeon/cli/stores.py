"""Opening the store a command is about, and saying what opening it did."""

from __future__ import annotations

from collections.abc import Sequence

from aeon import manifest as manifests
from aeon.cli.arguments import Arguments
from aeon.cli.terminal import Terminal
from aeon.cli.values import CommandError, load_embedder, show_count
from aeon.embedding import Embed
from aeon.engine import View
from aeon.files import OsFileSystem, absolute
from aeon.manifest import MANIFEST_NAME, Manifest
from aeon.opening import open_store
from aeon.options import Durability
from aeon.recall import Filters, select_alive
from aeon.results import Memory
from aeon.store import Store


def open_to_read(arguments: Arguments) -> Store:
    """Open an existing store beside whoever writes to it."""
    return open_store(arguments.store, read_only=True, embed=chosen_embedder(arguments))


def open_to_write(
    arguments: Arguments,
    terminal: Terminal,
    *,
    create: bool = False,
    dim: int | None = None,
    embed: Embed | None = None,
    durability: Durability = "full",
) -> Store:
    """Open a store for writing, make it if asked to, and tell what had to be repaired."""
    is_new = not exists(arguments.store)
    store = open_store(
        arguments.store, dim, durability=durability, embed=embed or chosen_embedder(arguments), create=create
    )
    if is_new:
        terminal.note(f"made the store {arguments.store}")
    recovery = store.recovery
    if recovery.bytes_dropped:
        terminal.note(
            f"recovered from a crash: {show_count(recovery.commits_replayed, 'commit')} replayed, "
            f"{recovery.bytes_dropped:,} bytes of an unfinished write dropped ({recovery.reason})"
        )
    return store


def require_embedder(arguments: Arguments, store: Store) -> bool:
    """Whether the store makes its vectors itself; CommandError if it does, and what makes them was not given."""
    maker = store.embedder
    if maker and store._embed is None:
        raise CommandError(
            f"the vectors in {arguments.store} are made by {maker!r}: say where it is with --embed MODULE:NAME"
        )
    return bool(maker)


def exists(path: str) -> bool:
    """Whether a store stands at `path`."""
    return OsFileSystem().exists(f"{absolute(path)}/{MANIFEST_NAME}")


def describe(path: str) -> Manifest | None:
    """The MANIFEST of the store at `path`, or None if there is no store."""
    return manifests.load(OsFileSystem(), absolute(path)) if exists(path) else None


def chosen_embedder(arguments: Arguments) -> Embed | None:
    """The embedder of --embed, if the command has that argument and it was given."""
    spec = getattr(arguments, "embed", None)
    return load_embedder(spec) if spec else None


def select(store: Store, filters: Filters) -> tuple[View, Sequence[int]]:
    """A snapshot of the store, and the indexes of its current memories that pass the filters, in the order of ids."""
    view = store._view()
    return view, select_alive(view, filters)


def memory_at(view: View, index: int) -> Memory:
    """The memory of the event at `index`."""
    return Memory(view.engine, index, view.engine.event(index).id)
