"""Make a golden store: what this version of aeon writes, kept for ever, so that every later version proves that it reads it.

    python -m tests.format.golden.make_golden v1

Run once per format version. A store that is in the repository is never made anew, unless its format was never released.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import aeon
from aeon.format import FORMAT_VERSION
from aeon.store import Store
from tests.crash.damage import make_specimen
from tests.crash.workloads import DIM, KEYS, SESSIONS, TOPICS, carry_out, short_texts_inline

HERE = Path(__file__).parent
_KINDS_OF_ROWS = ("int8", "float32")


def with_topic(store: Store, topic: str) -> list[int]:
    """Ids that a filtered search finds, best first."""
    return [hit.id for hit in store.recall([1.0] * DIM, 20, where={"topic": topic}, exact=True)]


def describe(store: Store) -> dict[str, Any]:
    """All that a store shows, as JSON."""
    memories = {}
    for id_ in range(1, 40):
        try:
            memory = store.get(id_)
        except aeon.NotFoundError:
            continue
        vector = memory.vector
        memories[str(id_)] = {**memory.to_dict(), "vector": None if vector is None else [float(x) for x in vector]}
    hits = store.recall([1.0, -0.5, 0.25, 2.0], 20, exact=True)
    return {
        "dim": DIM,
        "memories": memories,
        "history": {name: [memory.id for memory in store.history(name, None)] for name in SESSIONS},
        "sessions": {info.name: info.count for info in store.sessions()},
        "keys": [[list(space), key, getattr(store.get_key(key, space), "id", None)] for space, key in KEYS],
        "topics": {topic: with_topic(store, topic) for topic in TOPICS[:2]},
        "hits": [[hit.id, round(hit.score, 5)] for hit in hits],
        "lsn": store.lsn,
        "generation": store.stats().generation,
    }


def make(folder: Path) -> None:
    """Write the stores, one for each kind of rows, and what they must show."""
    with short_texts_inline():
        for rows in _KINDS_OF_ROWS:
            path = folder / rows  # not .aeon: stores by that name are ignored by git
            workload = make_specimen(rows).workload
            with aeon.open(path, DIM, rows=rows, **workload.settings) as store:  # type: ignore[arg-type]
                for step in workload.steps:
                    carry_out(store, step)
                (folder / f"{rows}.json").write_text(
                    json.dumps(describe(store), indent=1, ensure_ascii=True), encoding="utf-8"
                )
            (path / "LOCK").unlink()  # names the machine it was made on


def main() -> None:
    """Make the stores of one version."""
    name = sys.argv[1]
    assert name == f"v{FORMAT_VERSION}", f"this aeon writes v{FORMAT_VERSION}"
    folder = HERE / name
    folder.mkdir()
    make(folder)


if __name__ == "__main__":
    main()
