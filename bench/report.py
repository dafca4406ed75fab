"""Tables for README.md, made from results: hand edits between the markers fail a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- figures: begin (python -m bench report) -->", "<!-- figures: end -->"


def load(path: Path) -> list[dict[str, Any]]:
    """Read results."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def table(results: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    where = results[0]["machine"]
    sync = next((result["value"] for result in results if result["metric"] == "fdatasync"), float("nan"))
    lines = [
        f"Measured by `python -m bench run` on {where['cpu']}, {where['cores']} cores, {where['memory_gb']:.0f} GB, "
        f"{where['system']}, Python {where['python']}, NumPy {where['numpy']}, numba {where['numba']}, {where['date']}. "
        f"Medians, with least and most of the repeats; called from Python. One write + fdatasync of 600 bytes took "
        f"{sync:.0f} us on this disk.",
        "",
        "| what | figure | range | conditions |",
        "|---|---|---|---|",
    ]
    for result in results:
        row = _row(result)
        if row:
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _row(r: dict[str, Any]) -> tuple[str, str, str, str] | None:
    spread = f"{_number(r['least'])} to {_number(r['most'])}" if "least" in r else ""
    figure = f"{_number(r['value'])} {r['unit']}"
    match r["metric"]:
        case "remember":
            return (
                "`remember`, one thread",
                figure,
                spread,
                f"durability {r['durability']}, {r['dim']} dims, text of 82 bytes",
            )
        case "remember_many":
            return "`remember_many`", figure, spread, f"durability {r['durability']}, {r['batch']} a commit, with texts"
        case "log_share":
            return (
                "log's share of an insert",
                figure,
                spread,
                f"durability normal, {r['batch']} a commit, log really written",
            )
        case "group_commit":
            disk = f"sync slowed by {r['added_sync_ms']} ms" if r["added_sync_ms"] else "this disk"
            return (
                f"durable commits, {r['threads']} thread{'s' if r['threads'] > 1 else ''}", figure, spread,
                f"{disk}; {r['over_one_thread']:.1f}x one thread",
            )  # fmt: skip
        case "search":
            how = "exact scan" if r["exact"] else "default"
            return (
                f"`atlas.search`, {how}", figure, spread,
                f"{r['rows']:,} real turns x {r['dim']}, {r['kept_as']}, k = {r['k']}: recall@10 {r['recall@10']:.4f}, "
                f"P99 {_number(r['p99'])} us",
            )  # fmt: skip
        case "recall_call":
            return "`recall` with hits", figure, spread, f"{r['rows']:,} real turns, {r['kept_as']}"
        case "open":
            return "`aeon.open`", figure, spread, f"{r['rows']:,} rows x {r['dim']}, checkpointed"
        case "replay":
            return "`aeon.open` with replay", figure, spread, f"{r['commits']:,} single commits in the log"
        case "import":
            return "`import aeon`", figure, spread, "beyond numpy's own import"
        case "first_recall":
            return "first `recall`", figure, spread, f"{r['rows']:,} turns, {r['note']}"
        case "vector_bytes":
            return (
                "disk for vectors", figure, spread,
                f"{r['dim']} dims, text and event aside: {r['ratio']:.2f}x smaller than float32's {r['float32']}",
            )  # fmt: skip
        case "trace_append":
            return "the Trace's share of a `remember`", figure, spread, "durability normal, one a commit, log aside"
        case "trace_open":
            return "`aeon.open`", figure, spread, f"{r['events']:,} events with parents and links, checkpointed"
        case "history":
            return "`history`, 100 memories", figure, spread, f"{r['events']:,} events, checkpointed"
        case "three_hops":
            return (
                "`trace.subgraph`, 3 hops", figure, spread,
                f"{r['events']:,} events, {r['seeds']} seeds, {r['nodes']:,} nodes, {r['edges']:,} edges",
            )  # fmt: skip
        case "session_memory":
            return (
                "memory of a session of ten events", figure, "",
                f"{r['sessions']:,} sessions, no checkpoint yet; the operations with the texts take "
                f"{_number(r['operations'])} more",
            )  # fmt: skip
        case "time_blocks":
            return (
                "`trace.search`", figure, spread,
                f"{r['rows']:,} x {r['dim']}, {r['note']}: recall@10 {r['recall@10']:.3f}, {r['over_scan']:.0f}x as fast as "
                f"a scan of all ({_number(r['scan_us'])} us); through the blocks of time alone {_number(r['blocks_us'])} us, "
                f"{r['blocks_over_scan']:.1f}x, recall@10 {r['blocks_recall@10']:.3f}; in a twentieth of the time "
                f"{_number(r['twentieth_us'])} us",
            )  # fmt: skip
        case "compaction":
            return (
                "`compact`, every sync", figure, spread, f"{r['events']:,} events down to {r['left']:,}, {r['note']}"
            )  # fmt: skip
        case "pause":
            return (
                f"writers held up by the {r['note']}",
                figure,
                spread,
                "20,000 rows and more, a busy writer",
            )
        case "search_tail":
            return (
                "`atlas.search` during compactions, P99.9", figure, "",
                f"{r['rows']:,} rows x {r['dim']}; quiet {_number(r['quiet'])} us ({r['ratio']:.1f}x)",
            )  # fmt: skip
        case "two_readers":
            return "two reading threads", figure, spread, f"{r['over_one']:.2f}x one"
        case "beside_writer":
            return "one reading thread beside a writer", figure, spread, f"{r['over_quiet']:.2f}x of quiet"
        case "pin":
            return (
                "pin and unpin, P99", figure, "",
                f"{r['threads']} threads, a writer that compacts; {r['torn']} of {r['checked']:,} checked reads torn",
            )  # fmt: skip
        case "zero_copy":
            return "10 MB of rows to NumPy", figure, spread, str(r["note"])
        case "slb_lookup":
            return (
                "`slb.lookup`",
                figure,
                spread,
                f"{r['entries']} cached queries x {r['dim']} float32, P99 {_number(r['p99'])} us",
            )
        case "slb_exact":
            return "`recall`, repeated query", figure, spread, f"SLB, answered `exact`, P99 {_number(r['p99'])} us"
        case "slb_overhead":
            return (
                f"SLB on, plain turns: {r['of']}", figure, "",
                f"`auto` {r['on']:.1f} us, off {r['off']:.1f} us; each query in turn, least of 9",
            )  # fmt: skip
        case "slb_hits":
            recall = f"recall@10 of hits {r['recall@10']:.4f}" if r["recall@10"] is not None else "no hits"
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(r["kinds"].items()))
            return (
                f"SLB `{r['mode']}`{', exact=True' if r['exact'] else ''}, {r['stream']} turns: hits", figure, "",
                f"{kinds}; {recall}; {r['differences']} certified answers differ from exact search",
            )  # fmt: skip
        case "slb_hit_time":
            return (
                f"SLB `{r['mode']}`{', exact=True' if r['exact'] else ''}, {r['stream']}, a hit", figure, spread,
                f"{r['kind']}; the Atlas for the same queries {_number(r['atlas'])} us: {r['value'] / r['atlas']:.2f}x",
            )  # fmt: skip
        case "slb_paper":
            recall = f", recall@10 {r['recall@10']:.2f}" if r["recall@10"] is not None else ""
            return (
                f"the paper's policy, {r['stream']} turns: answers given", figure, "",
                f"cached answer from a cosine of {r['tau']} on: {r['wrong']:.0f} % of them wrong in some place{recall}",
            )  # fmt: skip
        case "slb_threads":
            return (
                f"`recall` from {r['threads']} threads", figure, "",
                f"SLB {r['mode']}, {r['sessions']:,} sessions: P50 {_number(r['p50'])} us, P99 {_number(r['p99'])} us",
            )  # fmt: skip
    return None


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write(results: Path) -> None:
    """Put the table between README's markers."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(load(results))}\n{END}{after}", encoding="utf-8")
