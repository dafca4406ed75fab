"""The smallest parts under pytest-benchmark; `python -m bench run micro` runs this file and reads what it measured.

    PYTHONPATH=. pytest -c /dev/null bench/micro.py --benchmark-json out.json

A case is a call and what one call works on: so many rows of so many bytes. `where` says what the rows are read from: the
L2 cache (half of it is filled) or memory (more than any cache holds).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.format import SEGMENT_HEADER
from aeon.pages import PageIndex
from aeon.wal import SegmentReader, decode_segment_header
from aeon_native import dispatch
from aeon_native.page_layout import block_bytes, scratch_bytes
from bench import data, limits, machine
from bench.common import TEXT
from bench.growth import Rows

DIM = 768
MEMORY_BYTES = 192 << 20


@dataclass
class Case:
    """What is called, and what a call works on."""

    call: Callable[[], Any]
    rows: int = 1
    row_bytes: int = 0
    about: dict[str, Any] | None = None


def _count(where: str, row_bytes: int) -> int:
    return (limits.l2_bytes() // 2 if where == "L2" else MEMORY_BYTES) // row_bytes


def _codes(count: int) -> Any:
    return np.resize(np.random.default_rng(7).integers(-127, 128, (1024, DIM), dtype=np.int8), (count, DIM))


def _floats(count: int) -> Any:
    return np.resize(np.random.default_rng(7).standard_normal((1024, DIM), np.float32), (count, DIM))


def _dot_int8(where: str, _: Path) -> Case:
    codes = _codes(_count(where, DIM))
    out = np.empty(len(codes), np.int32)
    return Case(lambda: dispatch.kernels.dot_rows_int8(codes, codes[0], out), len(codes), DIM)


def _dot_f32(where: str, _: Path) -> Case:
    rows = _floats(_count(where, 4 * DIM))
    out = np.empty(len(rows), np.float32)
    return Case(lambda: dispatch.kernels.dot_rows_f32(rows, rows[0], out), len(rows), 4 * DIM)


def _scan_int8(where: str, _: Path) -> Case:
    codes = _codes(_count(where, DIM))
    scales, died = np.full(len(codes), 1e-3, np.float32), np.zeros(len(codes), np.uint64)
    query, none = np.empty(DIM, np.int16), np.empty(0, np.uint8)
    scale = dispatch.kernels.prepare_query(codes[0].astype(np.float32), query)
    scores, rows = np.empty(10, np.float32), np.empty(10, np.int64)
    return Case(
        lambda: dispatch.kernels.scan_int8(codes, scales, died, 0, query, scale, none, 0, scores, rows, 0),
        len(codes), DIM,
    )  # fmt: skip


def _sketch_scan(_: str, __: Path) -> Case:
    """All pages of an index over 20,000 rows; its recall is that of a search that skips no page."""
    vectors = data.imitation(20_032, DIM)
    base, queries = vectors[:20_000], vectors[20_000:]
    rows = Rows([base], DIM, len(base))
    index = PageIndex(rows, DIM, b"aeon-micro-bench")
    index.build(len(base))
    shown, scratch = index.snapshot, np.empty(scratch_bytes(DIM), np.uint8)
    scores, found = np.empty((1, 10), np.float32), np.empty((1, 10), np.int64)
    counts, stats, none = np.zeros(1, np.int64), np.zeros(3, np.int64), np.empty(0, np.uint8)

    def search(query: Any) -> None:
        counts[0] = 0
        dispatch.kernels.search_pages(
            shown.ctx, query, shown.rows, 0, 1 << 20, 1 << 20, 1.9, np.inf, none, scratch, scores, found, counts, stats
        )

    right = 0
    for query in queries:
        search(query[None])
        right += int((scores[0] >= rows.kth(query) - 1e-6).sum())
    scored = float(stats[2]) / len(queries)
    turn = itertools.cycle([query[None] for query in queries])
    about = {"recall@10": right / (10 * len(queries)), "rows_rescored": scored}
    return Case(lambda: search(next(turn)), len(base), block_bytes(DIM) // 32, {**about, "keep": (index, rows)})


def _crc(where: str, _: Path) -> Case:
    size = limits.l2_bytes() // 2 if where == "L2" else MEMORY_BYTES
    block = np.random.default_rng(7).bytes(1 << 18) * (size >> 18)
    return Case(lambda: dispatch.kernels.crc32c(block), size // 1024, 1024)


def _rows_checksum(where: str, _: Path) -> Case:
    codes = _codes(_count(where, DIM))
    ids, scales = np.arange(len(codes), dtype=np.uint64), np.ones(len(codes), np.float32)
    out = np.empty(len(codes), np.uint32)
    return Case(lambda: dispatch.kernels.rows_checksum(codes, ids, scales, out), len(codes), DIM)


def _quantise(where: str, _: Path) -> Case:
    count = _count(where, 5 * DIM)
    rows = _floats(count)
    codes, scales = np.empty((count, DIM), np.int8), np.empty(count, np.float32)
    return Case(lambda: dispatch.kernels.quantize(rows, codes, scales), count, 5 * DIM)


def _slb_lookup(_: str, folder: Path) -> Case:
    rows = data.imitation(1200, DIM)
    store = aeon.open(folder / "slb.aeon", DIM, durability="off")
    store.remember_many(["x"] * 1000, rows[:1000])
    for vector in rows[:64]:
        store.recall(vector, asked_in="s", slb="certified")
    turn = itertools.cycle(rows[1000:])
    return Case(lambda: store.slb.lookup("s", next(turn), 0.85), 64, 4 * DIM, {"entries": 64, "keep": store})


def _pin(_: str, folder: Path) -> Case:
    store = aeon.open(folder / "pin.aeon", 16, durability="off")
    store.remember_many(["x"] * 100, data.imitation(100, 16))
    return Case(lambda: store.pin().close(), about={"keep": store})


def _log_append(_: str, folder: Path) -> Case:
    """A frame of 600 bytes into the log, not synced: what `normal` pays."""
    store = aeon.open(folder / "log.aeon", 16, durability="normal", checkpoint_log_bytes=0)
    wal, body = store._writer(), np.random.default_rng(7).bytes(600)
    return Case(lambda: wal.append(body, 1), 1, 600, {"durability": "normal", "keep": store})


def _frame_decode(_: str, folder: Path) -> Case:
    """The frames of 1,000 single commits, read and checked as a replay does, in memory."""
    with aeon.open(folder / "frames.aeon", 384, durability="normal", checkpoint_log_bytes=0) as store:
        for vector in data.imitation(1000, 384):
            store.remember(TEXT, vector)
        uuid, path = store._engine.manifest.uuid, sorted((folder / "frames.aeon" / "wal").iterdir())[0]
        block = memoryview(path.read_bytes())
    header = decode_segment_header(bytes(block[: SEGMENT_HEADER.size]), path.name, uuid, int(path.stem))

    def read() -> int:
        reader = SegmentReader(block, path.name, header, lsn=header.first_lsn, offset=SEGMENT_HEADER.size, is_last=True)
        return sum(1 for _ in reader)

    count = read()
    assert count == 1000
    return Case(read, count, len(block) // count)


CASES: dict[str, tuple[Callable[[str, Path], Case], tuple[str, ...]]] = {
    "int8 dot": (_dot_int8, ("L2", "memory")),
    "float32 dot": (_dot_f32, ("L2", "memory")),
    "int8 scan, top 10": (_scan_int8, ("L2", "memory")),
    "sketch scan, top 10": (_sketch_scan, ("L2",)),
    "CRC-32C, 1 KiB": (_crc, ("L2", "memory")),
    "CRC-32C of a row": (_rows_checksum, ("L2",)),
    "quantise": (_quantise, ("L2", "memory")),
    "SLB lookup": (_slb_lookup, ("",)),
    "pin and unpin": (_pin, ("",)),
    "log append": (_log_append, ("",)),
    "frame decode": (_frame_decode, ("",)),
}
KERNELS = frozenset(name for name, (_, places) in CASES.items() if places != ("",))


@pytest.mark.parametrize(("name", "where"), [(name, where) for name, (_, places) in CASES.items() for where in places])
def test_speed(benchmark: Any, tmp_path: Path, name: str, where: str) -> None:
    """One case; pytest-benchmark chooses how often."""
    dispatch.start()
    dispatch.wait()
    case = CASES[name][0](where, tmp_path)
    about = {key: value for key, value in (case.about or {}).items() if key != "keep"}
    benchmark.extra_info.update({"name": name, "where": where, "rows": case.rows, "row_bytes": case.row_bytes, **about})
    with machine.pinned():
        benchmark(case.call)
    kept = (case.about or {}).get("keep")
    if isinstance(kept, aeon.Store):
        kept._wal = None if name == "log append" else kept._wal  # its frames hold nothing a checkpoint could read
        kept.close()
