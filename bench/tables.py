"""What is said of each metric: the section it stands in, and how a result reads as a row of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Result = dict[str, Any]
Words = tuple[str, str]  # what was measured, and under which conditions


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _code(text: str) -> Callable[[Result], str]:
    return lambda _: text


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _slb(r: Result, what: str) -> str:
    return f"SLB `{r['mode']}`{', exact=True' if r['exact'] else ''}, {r['stream']} turns: {what}"


def _group_commit(r: Result) -> Words:
    disk = f"sync slowed by {r['added_sync_ms']} ms" if r["added_sync_ms"] else "this disk"
    return f"durable commits, {_plural(r['threads'], 'thread')}", f"{disk}; {r['over_one_thread']:.1f}x one thread"


def _search(r: Result) -> Words:
    how = "exact scan" if r["exact"] else "default"
    note = r.get("note", "real turns")
    return f"`atlas.search`, {how}", f"{r['rows']:,} {note} x {r['dim']}, {r['kept_as']}, k = {r['k']}"


def _time_blocks(r: Result) -> Words:
    return "`trace.search`", (
        f"{r['rows']:,} x {r['dim']}, {r['note']}: {r['over_scan']:.0f}x as fast as a scan of all ({number(r['scan_us'])} us); "
        f"through the blocks of time alone {number(r['blocks_us'])} us, {r['blocks_over_scan']:.1f}x, recall@10 "
        f"{r['blocks_recall@10']:.3f}; in a twentieth of the time {number(r['twentieth_us'])} us"
    )


def _slb_hits(r: Result) -> Words:
    recall = f"recall@10 of hits {r['recall@10']:.4f}" if r["recall@10"] is not None else "no hits"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(r["kinds"].items()))
    return _slb(r, "hits"), f"{kinds}; {recall}; {r['differences']} certified answers differ from exact search"


def _kernel(r: Result) -> Words:
    where = "L2" if r["where"] == "L2" else "memory"
    rescored = f"; {r['rows_rescored']:.0f} of {r['rows']:,} rows rescored" if "rows_rescored" in r else ""
    return f"{r['name']}, out of {where}", (
        f"a row of {r['row_bytes']:,} bytes: {number(r['cycles'])} cycles, {r['bytes_per_cycle']:.1f} bytes a cycle, "
        f"{r['of_limit_percent']:.0f} % of what is read at most{rescored}"
    )


def _mixed(r: Result) -> str:
    return (
        f"{r['seconds']:.0f} s at {r['calls_per_second']:,} calls a second, 80 % recall; {r['rows']:,} rows grow to "
        f"{r['rows_at_the_end']:,}; {r['generations']} generations written"
    )


ROWS: dict[str, tuple[str, Callable[[Result], Words]]] = {
    "limit": ("Kernels", lambda r: (
        "the clock" if r["of"] == "clock" else f"reading out of {r['of']}, one thread", r["note"],
    )),
    "kernel": ("Kernels", _kernel),
    "sketch_scan": ("Kernels", _kernel),
    "dot_ratio": ("Kernels", lambda r: ("float32 dot over int8 dot", f"{r['dim']} dims, {r['note']}")),
    "call": ("Kernels", lambda r: (
        {"frame decode": "frame decode, of a log in memory", "pin and unpin": "pin and unpin, one thread"}.get(
            r["name"], r["name"]
        ), f"{number(r['cycles'])} cycles, called from Python",
    )),
    "log_append": ("Kernels", lambda r: ("log append, 600 bytes", f"{number(r['cycles'])} cycles, called from Python")),
    "fdatasync": ("Writing", lambda r: ("one write + fdatasync", "600 bytes into reserved space, this disk")),
    "remember": ("Writing", lambda r: ("`remember`, one thread", f"{r['dim']} dims, text of 82 bytes")),
    "log_share": ("Writing", lambda r: ("log's share of an insert", f"{r['batch']} a commit, log really written")),
    "remember_many": ("Writing", lambda r: ("`remember_many`", f"{r['batch']} a commit, with texts")),
    "remember_threads": ("Writing", lambda r: (
        f"`remember`, {_plural(r['threads'], 'thread')}", f"{r['dim']} dims; {r['over_one_thread']:.1f}x one thread",
    )),
    "group_commit": ("Writing", _group_commit),
    "checkpoint": ("Writing", lambda r: (
        "`checkpoint`", f"{r['rows']:,} rows x {r['dim']}, {r['new']:,} of them new: {r['note']}",
    )),
    "mixed_recall": ("Writing and searching at once", lambda r: ("`recall` of the mixed load", _mixed(r))),
    "mixed_remember": ("Writing and searching at once", lambda r: ("`remember` of the mixed load", _mixed(r))),
    "search": ("Searching", _search),
    "recall_call": ("Searching", lambda r: ("`recall` with hits", f"{r['rows']:,} {r['note']}, {r['kept_as']}")),
    "filtered": ("Searching", lambda r: (
        f"`recall`, {r['passes_percent']:g} % pass the filter", f"{r['rows']:,} {r['note']}, by {r['by']}"
        + (f"; the first query {number(r['first_ms'])} ms" if "first_ms" in r else ""),
    )),
    "growth": ("Searching", lambda r: (
        "`atlas.search`, default", f"{r['rows']:,} generated x {r['dim']}, {r['kept_as']}, k = {r['k']}; "
        f"filled and indexed in {number(r['fill_s'])} s",
    )),
    "slb_lookup": ("Asking in a conversation", lambda r: (
        "`slb.lookup`", f"{r['entries']} cached queries x {r['dim']} float32; recall@1 {r['recall@1']:.3f}",
    )),
    "slb_overhead": ("Asking in a conversation", lambda r: (
        f"SLB on, plain turns: {r['of']}",
        f"`auto` {r['on']:.1f} us, off {r['off']:.1f} us (recall@10 {r['off_recall@10']:.3f}); each query in turn, least of 9",
    )),
    "slb_exact": ("Asking in a conversation", lambda r: ("`recall`, repeated query", "SLB, answered `exact`")),
    "slb_hits": ("Asking in a conversation", _slb_hits),
    "slb_hit_time": ("Asking in a conversation", lambda r: (
        _slb(r, "a hit"),
        f"{r['kind']}, {r['rows']:,} rows, cold; the Atlas for such queries {number(r['atlas'])} us: "
        f"{r['value'] / r['atlas']:.2f}x",
    )),
    "slb_paper": ("Asking in a conversation", lambda r: (
        f"the paper's policy, {r['stream']} turns: answers given",
        f"cached answer from a cosine of {r['tau']} on: {r['wrong']:.0f} % of them wrong in some place"
        + (f", recall@10 {r['recall@10']:.2f}" if r["recall@10"] is not None else ""),
    )),
    "slb_threads": ("Asking in a conversation", lambda r: (
        f"`recall` from {r['threads']} threads", f"SLB {r['mode']}, {r['sessions']:,} sessions",
    )),
    "slb_sessions": ("Asking in a conversation", lambda r: (
        f"the SLB of {r['sessions']:,} sessions",
        f"two queries each, {number(r['recall_us'])} us a recall; {r['held']:,} are held, in {r['most_mib']:.0f} MiB; the "
        f"process grew by {r['grown_mib']:.0f} MiB; {r['newest_percent']:.0f} % of the newest thousand are answered again, "
        f"{r['oldest_percent']:.0f} % of the oldest",
    )),
    "open": ("Opening", lambda r: ("`aeon.open`", f"{r['rows']:,} rows x {r['dim']}, checkpointed")),
    "replay": ("Opening", lambda r: ("`aeon.open` with replay", f"{r['commits']:,} single commits in the log")),
    "trace_open": ("Opening", lambda r: (
        "`aeon.open`", f"{r['events']:,} events with parents and links, checkpointed",
    )),
    "import": ("Opening", lambda r: ("`import aeon`", "beyond numpy's own import")),
    "first_recall": ("Opening", lambda r: ("first `recall`", f"{r['rows']:,} turns, {r['note']}")),
    "trace_append": ("Episodes", lambda r: ("the Trace's share of a `remember`", "one a commit, log aside")),
    "history": ("Episodes", lambda r: ("`history`, 100 memories", f"{r['events']:,} events, checkpointed")),
    "three_hops": ("Episodes", lambda r: (
        "`trace.subgraph`, 3 hops",
        f"{r['events']:,} events, {r['seeds']} seeds, {r['nodes']:,} nodes, {r['edges']:,} edges",
    )),
    "time_blocks": ("Episodes", _time_blocks),
    "compaction": ("Upkeep", lambda r: (
        "`compact`, every sync", f"{r['events']:,} events down to {r['left']:,}, {r['note']}",
    )),
    "pause": ("Upkeep", lambda r: (f"writers held up by the {r['note']}", "20,000 rows and more, a busy writer")),
    "search_tail": ("Threads", lambda r: (
        "`atlas.search` during compactions, P99.9",
        f"{r['rows']:,} rows x {r['dim']}; quiet {number(r['quiet'])} us ({r['ratio']:.1f}x)",
    )),
    "two_readers": ("Threads", lambda r: ("two reading threads", f"{r['over_one']:.2f}x one")),
    "beside_writer": ("Threads", lambda r: (
        "one reading thread beside a writer", f"{r['over_quiet']:.2f}x of quiet",
    )),
    "pin": ("Threads", lambda r: (
        "pin and unpin, P99",
        f"{r['threads']} threads, a writer that compacts; {r['torn']} of {r['checked']:,} checked reads torn",
    )),
    "zero_copy": ("Threads", lambda r: ("10 MB of rows to NumPy", str(r["note"]))),
    "vector_bytes": ("Space", lambda r: (
        "disk for vectors", f"{r['dim']} dims, text and event aside: {r['ratio']:.2f}x smaller than float32's {r['float32']}",
    )),
    "disk_bytes": ("Space", lambda r: (
        "disk, all files but the log", f"{r['rows']:,} memories x {r['dim']} dims with a text of {r['text']} bytes; vectors "
        f"{number(r['vectors'])} of it",
    )),
    "memory_bytes": ("Space", lambda r: (
        "memory of a process that searches", f"{r['rows']:,} memories x {r['dim']} dims; {number(r['mapped'])} more a row "
        "are mapped files, which the system may take back",
    )),
    "session_memory": ("Space", lambda r: (
        "memory of a session of ten events",
        f"{r['sessions']:,} sessions, no checkpoint yet; the operations with the texts take {number(r['operations'])} more",
    )),
}  # fmt: skip
TABLED_APART = frozenset({  # tables of their own, in bench/report.py
    "engine", "engine_build", "engines", "store_insert", "store_batch", "store_search", "store_reopen", "store_disk", "stores",
})  # fmt: skip
SECTIONS = tuple(dict.fromkeys(section for section, _ in ROWS.values()))

# The README's: metric, and what else has to be so. The first result that fits is shown.
HEADLINES: tuple[tuple[str, Result], ...] = (
    ("remember", {"durability": "full"}),
    ("remember", {"durability": "normal"}),
    ("remember_many", {"durability": "normal"}),
    ("search", {"kept_as": "int8", "exact": False}),
    ("recall_call", {"kept_as": "int8"}),
    ("filtered", {"passes_percent": 1, "by": "session"}),
    ("filtered", {"passes_percent": 1, "by": "metadata"}),
    ("growth", {"rows": 1_000_000}),
    ("slb_exact", {}),
    ("mixed_recall", {}),
    ("mixed_remember", {}),
    ("open", {"rows": 1_000_000}),
    ("replay", {}),
    ("compaction", {"events": 1_000_000}),
    ("pin", {}),
    ("zero_copy", {"note": "a view of the mapping"}),
    ("vector_bytes", {}),
    ("disk_bytes", {}),
)


def fits(result: Result, metric: str, wanted: Result) -> bool:
    """Whether a result is of this metric and has these values."""
    return result["metric"] == metric and all(result.get(key) == value for key, value in wanted.items())


def cells(r: Result) -> dict[str, str]:
    """A result by columns."""
    what, conditions = ROWS[r["metric"]][1](r)
    if r.get("cache") == "cold" and r["metric"] in ("open", "first_recall"):
        conditions += ", cold: nothing of it in the system's cache" if r["metric"] == "open" else ""
    recall = r.get("recall@10")
    return {
        "what": what,
        "figure": f"{number(r['value'])} {r['unit']}",
        "range": f"{number(r['least'])} to {number(r['most'])}" if "least" in r and r.get("repeats") != 1 else "",
        "P99": number(r["p99"]) if "p99" in r else "",
        "P99.9": number(r["p99.9"]) if "p99.9" in r else "",
        "recall@10": f"{recall:.3f}" if isinstance(recall, float) and r["metric"] != "slb_hits" else "",
        "durability": r.get("durability", ""),
        "conditions": conditions,
    }
