"""`aeon export` and `aeon import`: all current memories as JSON lines, and back.

The first line is the header, an object with `aeon_export` (the version of this form, 1) that describes the store; every
other line is a memory with its id, in the order of ids, so a parent comes before its children.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.cli.arguments import Arguments
from aeon.cli.ingest import Loader, batches, finish
from aeon.cli.sources import BadLine, Record, Source, json_objects, read_exported
from aeon.cli.stores import describe, memory_at, open_to_read, open_to_write, select
from aeon.cli.terminal import Terminal
from aeon.cli.values import CommandError, show_count, to_json
from aeon.embedder import HashEmbedder
from aeon.embedding import Embed, embed_texts
from aeon.errors import AeonError
from aeon.files import FILE_MODE
from aeon.format import DIM_MAX
from aeon.recall import Filters
from aeon.results import Memory
from aeon.store import Store

EXPORT_VERSION = 1
_BATCH = 1000
_PROGRESS_EVERY = 256


# -- export -------------------------------------------------------------------------------------------------------


def export(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon export STORE [FILE]`."""
    begin = time.perf_counter()
    with open_to_read(arguments) as store, _output(arguments, terminal) as write:
        view, indexes = select(store, Filters())
        manifest = view.engine.manifest
        write(
            {
                "aeon_export": EXPORT_VERSION,
                "memories": len(indexes),
                "embedder": manifest.embedder,
                "dim": manifest.dim,
                "vectors": arguments.vectors or "none",
            },
        )
        with terminal.progress("exporting", len(indexes)) as progress:
            for done, index in enumerate(indexes):
                write(_line(memory_at(view, index), arguments.vectors))
                if done % _PROGRESS_EVERY == 0:
                    progress.to(done)
    if arguments.file != "-":
        seconds = time.perf_counter() - begin
        if terminal.as_json:
            terminal.emit({"memories": len(indexes), "file": arguments.file, "seconds": round(seconds, 3)})
        else:
            terminal.text(f"wrote {show_count(len(indexes), 'memory')} to {arguments.file} ({seconds:.2f} s)")
    return 0


def _line(memory: Memory, vectors: str | None) -> dict[str, Any]:
    fields = memory.to_dict()
    if vectors and memory.vector is not None:
        vector = memory.vector.astype("<f4")
        fields["vector"] = (
            base64.b64encode(vector.tobytes()).decode("ascii") if vectors == "base64" else vector.tolist()
        )
    return fields


@contextmanager
def _output(arguments: Arguments, terminal: Terminal) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What writes a line. A file is UTF-8, for its owner only, and under its name only once it is whole."""
    path = arguments.file
    if path == "-":
        yield terminal.emit
        return
    if os.path.lexists(path) and not arguments.force:
        raise CommandError(f"{path} is there already; --force replaces it")
    part = f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as out:

            def write(fields: dict[str, Any]) -> None:
                out.write(json.dumps(to_json(fields), ensure_ascii=False, separators=(",", ":")) + "\n")

            yield write
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


# -- import -------------------------------------------------------------------------------------------------------


class _Recorded:
    """Stands for an embedder whose vectors are at hand and which is not: a name and a length."""

    def __init__(self, name: str, dim: int) -> None:
        self.name = name
        self._dim = dim

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.zeros((len(texts), self._dim), np.float32)  # asked for its length only, when the store is made


def import_(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon import STORE FILE`."""
    begin = time.perf_counter()
    with Source(arguments.file) as source:
        importer = None
        loader = None
        try:
            header, objects = _header(source, json_objects(source))
            records = _records(objects)
            first = [record for record in [next(records, None)] if record is not None]  # read before a store is made
            with _open(arguments, terminal, header) as store:
                importer = _Importer(store, _vector_maker(arguments, terminal, store, header))
                loader = Loader(store, importer.commit)
                total = header.get("memories")
                with terminal.progress("importing", total) as progress:
                    for batch in batches(chain(first, records), _BATCH):
                        loader.load(batch)
                        progress.to(loader.kept, note=show_count(loader.kept, "memory"))
                    finish(store, loader.kept)
            if isinstance(total, int) and loader.kept != total:
                raise CommandError(f"{source.path} is not whole: it was written with {show_count(total, 'memory')}")
        except (AeonError, OSError, KeyboardInterrupt) as error:
            if loader is None and not isinstance(error, BadLine):
                raise
            kept = f"{loader.kept:,}" if loader else "none"
            state = f"{kept} of its memories are in {arguments.store}"
            if isinstance(error, KeyboardInterrupt):
                terminal.note(f"interrupted; {state}")
                raise
            where = f"{source.path}, " if isinstance(error, BadLine) else ""
            raise CommandError(f"{where}{error}; {state}") from error
    _report(arguments, terminal, loader.kept, importer, time.perf_counter() - begin)
    return 0


def _report(arguments: Arguments, terminal: Terminal, kept: int, importer: _Importer, seconds: float) -> None:
    if terminal.as_json:
        terminal.emit(
            {
                "store": arguments.store,
                "memories": kept,
                "first_id": importer.first_id,
                "last_id": importer.last_id,
                "links_dropped": importer.dropped,
                "seconds": round(seconds, 3),
            }
        )
        return
    ids = f"; their ids are new, #{importer.first_id} to #{importer.last_id}" if kept else ""
    terminal.text(f"imported {show_count(kept, 'memory')} ({seconds:.2f} s){ids}")
    if importer.dropped:
        terminal.note(f"{show_count(importer.dropped, 'link')} to memories that are not in the file left out")


def _header(
    source: Source, objects: Iterator[tuple[int, dict[str, Any] | BadLine]]
) -> tuple[dict[str, Any], Iterator[tuple[int, dict[str, Any] | BadLine]]]:
    """Return the header and the lines behind it; without one, what the first memory tells."""
    first = next(objects, None)
    if first is None:
        raise CommandError(f"{source.path} is empty: not an export")
    number, fields = first
    if isinstance(fields, BadLine):
        raise fields
    version = fields.get("aeon_export")
    if version is None:
        return {"vectors": "list" if "vector" in fields else "none"}, chain([first], objects)
    if not isinstance(version, int) or version > EXPORT_VERSION:
        raise BadLine(
            number, f"an export of version {version}; this aeon reads up to {EXPORT_VERSION}: update aeon-memory"
        )
    dim, embedder = fields.get("dim"), fields.get("embedder")
    if type(dim) is not int or not 1 <= dim <= DIM_MAX or not isinstance(embedder, str):
        raise BadLine(number, '"dim" or "embedder" is missing in the header')
    return fields, objects


def _records(objects: Iterator[tuple[int, dict[str, Any] | BadLine]]) -> Iterator[Record]:
    for number, fields in objects:
        if isinstance(fields, BadLine):
            raise fields
        yield read_exported(number, fields)


def _open(arguments: Arguments, terminal: Terminal, header: dict[str, Any]) -> Store:
    """Open the store; a new one gets the embedder of --embed, or that of the exported store."""
    dim, embed = None, None
    if not arguments.embed and describe(arguments.store) is None and "embedder" in header:
        maker, has_vectors = header["embedder"], header.get("vectors") != "none"
        if maker == HashEmbedder.name:
            pass
        elif not has_vectors:
            by = f"the embedder {maker!r}" if maker else "their caller"
            raise CommandError(
                f"the vectors of this export were made by {by} and are not in it: export with --vectors, "
                "or say --embed MODULE:NAME (or builtin) to make new ones"
            )
        elif maker:
            embed = _Recorded(maker, header["dim"])
        else:
            dim = header["dim"]
    return open_to_write(arguments, terminal, create=True, dim=dim, embed=embed, durability=arguments.durability)


def _vector_maker(
    arguments: Arguments, terminal: Terminal, store: Store, header: dict[str, Any]
) -> Callable[[Sequence[Record]], list[Any]]:
    """What turns a batch into vectors: those of the file if they are of the store's kind, else its embedder."""
    maker = store.embedder
    same = header.get("embedder", maker) == maker and header.get("dim", store.atlas.dim) == store.atlas.dim
    if header.get("vectors") != "none" and same:
        return lambda batch: [record.vector for record in batch]
    embed: Embed | None = store._embed
    if isinstance(embed, _Recorded) or (embed is None and maker):
        raise CommandError(
            f"the vectors in {arguments.store} are made by {maker!r}: say where it is with --embed MODULE:NAME"
        )
    if embed is None:
        terminal.note(
            f"{arguments.store} keeps its caller's vectors and the file has none that fit: recall will not find these"
        )
        return lambda batch: [None] * len(batch)
    known: Embed = embed
    return lambda batch: list(embed_texts(known, [record.text for record in batch], store.atlas.dim))


class _Importer:
    """Commits exported memories under new ids, and maps the links between them."""

    def __init__(self, store: Store, make_vectors: Callable[[Sequence[Record]], list[Any]]) -> None:
        self._store = store
        self._make_vectors = make_vectors
        self._new_ids: dict[int, int] = {}
        self.first_id = self.last_id = 0
        self.dropped = 0

    def commit(self, batch: Sequence[Record]) -> None:
        """One batch, one commit."""
        vectors = self._make_vectors(batch)
        made: dict[int, int] = {}
        dropped = 0

        def new_id(old: int) -> int | None:
            nonlocal dropped
            found = made.get(old) or self._new_ids.get(old)
            dropped += found is None
            return found

        with self._store.transaction():
            ids: list[int] = []
            for (namespace, alone), run in groupby(
                enumerate(batch), key=lambda item: (item[1].namespace, _stands_alone(item))
            ):
                members = list(run)
                records = [record for _, record in members]
                if alone is None:
                    some = [vectors[n] for n, _ in members]
                    new = self._store.remember_many(
                        [record.text for record in records],
                        _stacked(some),
                        namespace=namespace,
                        session=[record.session or "default" for record in records],
                        role=[record.role for record in records],
                        keys=[record.key for record in records],
                        metadata=[record.metadata for record in records],
                        timestamps=[record.timestamp for record in records],
                    )
                else:
                    ((n, record),) = members
                    refs = [id_ for id_ in map(new_id, record.refs) if id_ is not None]
                    parent = None if record.parent is None else new_id(record.parent)
                    new = self._remember(record, vectors[n], refs, parent)
                ids += new
                made.update((record.id, id_) for record, id_ in zip(records, new, strict=True) if record.id is not None)
        self._new_ids.update(made)
        self.dropped += dropped
        self.first_id = self.first_id or ids[0]
        self.last_id = ids[-1]

    def _remember(self, record: Record, vector: Any, refs: list[int], parent: int | None) -> list[int]:
        return self._store.remember_many(  # `remember` would embed the text of a memory that has no vector
            [record.text],
            [vector],
            session=record.session or "default",
            role=record.role,
            namespace=record.namespace,
            keys=[record.key],
            metadata=record.metadata,
            timestamps=[record.timestamp],
            refs=[refs],
            parents=[parent],
        )


def _stands_alone(item: tuple[int, Record]) -> int | None:
    """A number of its own for a memory with links, which is committed by a call of its own; None for the others."""
    n, record = item
    return n if record.refs or record.parent is not None else None


def _stacked(vectors: list[Any]) -> Any:
    """One array if every memory has a vector of the same length, else the list."""
    if all(vector is not None and len(vector) == len(vectors[0]) for vector in vectors):
        return np.stack(vectors)
    return vectors
