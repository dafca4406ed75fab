"""README's figures, docs/BENCHMARKS.md and the plots, made from results: hand edits fail a test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import paper, plots, tables
from bench.results import load, printable
from bench.tables import number

ROOT = Path(__file__).resolve().parents[1]
README, BENCHMARKS, FIGURES = ROOT / "README.md", ROOT / "docs" / "BENCHMARKS.md", ROOT / "docs" / "figures"
BEGIN, END = "<!-- figures: begin (python -m bench report) -->", "<!-- figures: end -->"
TARGETS = (0.9, 0.95, 0.99)
Result = dict[str, Any]

METHOD = """\
## Method

One command measures everything on the machine at hand, in half an hour, and writes this file, the figures of the
README and the plots; `--quick` tries everything at small sizes in three minutes and writes none of them.

```
pip install '.[bench,peers]'             # the peers you do not install are left out, and named
python -m bench all                                      # = run, then report
python -m bench list                                     # the workloads; `run NAME` or `run micro` measures a part anew
python -m bench compare --data PATH                      # your own vectors: .npy, ann-benchmarks HDF5, BEIR, LoCoMo
```

- **What is timed.** Calls from Python, the interpreter's own time included, by `perf_counter`; kernels by pytest-benchmark.
  Stores lie on the disk of the temporary folder (`--folder` for another one).
- **Repetitions.** A figure is the median; the range is least to most, of a few repeats of a loop or of all single calls.
  P99 and P99.9 are of single calls. Nothing was dropped as an outlier.
- **Interleaving.** What is compared takes turns within one run: engines setting by setting in each round, stores ten calls at
  a time, durabilities and thread counts round by round, kernels pass by pass.
- **Threads.** One, unless the row says otherwise. Kernels and comparisons run pinned to one core; other workloads are not
  pinned, since a store's background threads need the other core. Peers are told to search with one thread where they can be
  (lancedb and chroma cannot); indexes are built with all cores.
- **Warm or cold.** Warm, unless the row says cold: a cold open follows after the files were dropped from the system's cache;
  kernels out of memory read more than any cache holds.
- **Recall.** Against exact float32 search over the same rows; a result is right if its exact score reaches the tenth exact
  score, so that equal texts count for nobody and against nobody. For reading threads and for searches during
  compactions it is against the exact scan of the same INT8 rows.
- **Durability.** `full`: on disk when the call returns; `normal`: survives the process; `off`: until `flush`.
- **Data.** Real dialogue turns (60,012 x 384, 22 % exact duplicates), and rows generated after them with clusters, spectrum,
  a fifth of duplicates and topics that drift (`bench/generated.py`); where the real ones are missing, an imitation.
- **Left out.** faiss HNSW and a second hnswlib graph above 200,000 rows, for the time they take to build; lancedb's IVF_PQ,
  which took two minutes to build over 20,000 rows here; settings that find less than 85 %; queries beyond what a slow engine
  answers in 0.3 s a round (five at least). A figure without its recall or its durability is not printed.
"""


def machine_line(results: Sequence[Result]) -> str:
    """What everything was measured on."""
    where = results[-1]["machine"]
    commits = sorted({r["machine"]["commit"] for r in results} - {"unknown"})
    dates = sorted({r["machine"]["date"] for r in results})
    return (
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gb']:.0f} GB, {where['system']}, Python {where['python']}, "
        f"NumPy {where['numpy']}, numba {where['numba']}; "
        f"{dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}, commit{'s' if len(commits) != 1 else ''} "
        f"{', '.join(commits) or 'unknown'}"
    )


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns that are empty in every row are left out."""
    rows = [list(row) for row in rows]
    used = [n for n in range(len(header)) if n == 0 or any(row[n] for row in rows)]
    lines = [[header[n] for n in used], ["---"] * len(used), *([row[n] for n in used] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def readme(results: Sequence[Result]) -> str:
    """The README's part: headline figures, and how the peers compare in one line each."""
    kept, _ = printable(results)
    columns = ("what", "figure", "P99", "recall@10", "durability", "conditions")
    rows = []
    for metric, wanted in tables.HEADLINES:
        found = next((r for r in kept if tables.fits(r, metric, wanted)), None)
        if found:
            shown = tables.cells(found)
            rows.append([shown[column] for column in columns])
    parts = [
        f"Measured by `python -m bench all` on {machine_line(kept)}. Medians, called from Python. Every figure with its "
        "spread, the method, the plots, and aeon beside its peers and the paper: [docs/BENCHMARKS.md](docs/BENCHMARKS.md).",
        grid(columns, rows),
    ]
    engines = [r for r in kept if r["metric"] == "engine"]
    if engines:
        lines = []
        for target in TARGETS:
            best = _best(engines, target)
            ranked = sorted(best.values(), key=lambda r: r["value"])
            peers = [r for r in ranked if not r["engine"].startswith("aeon")]
            own = next((r for r in ranked if r["engine"].startswith("aeon")), None)
            kept_as = "" if own is None or own["engine"] == "aeon" else f" ({own['engine'].removeprefix('aeon, ')})"
            peer = f"{number(peers[0]['value'])} us ({peers[0]['engine']})" if peers else "none reaches it"
            ahead = min(best.values(), key=lambda r: r["value"])["engine"] if best else ""
            lines.append([str(target), f"{number(own['value'])} us{kept_as}" if own else "not reached", peer, ahead])
        parts.append(f"Among vector indexes, {_shape(engines[0])}, one query a call:")
        parts.append(grid(("recall@10 of at least", "aeon", "best peer", "fastest"), lines))
    parts += [f"![{alt}](docs/figures/{name})" for name, alt in plots.available(kept).items() if name == plots.COMPARE]
    return "\n\n".join(parts)


def benchmarks(results: Sequence[Result]) -> str:
    """All of docs/BENCHMARKS.md."""
    kept, refused = printable(results)
    parts = [
        "# Benchmarks",
        "Written by `python -m bench report` from `bench/results.jsonl`; a test fails where the two differ.",
        f"Measured on {machine_line(kept)}.",
        METHOD,
        "## Beside the paper",
        paper.section(kept),
    ]
    columns = ("what", "figure", "range", "P99", "P99.9", "recall@10", "durability", "conditions")
    shown = plots.available(kept)
    for section in tables.SECTIONS:
        rows = [tables.cells(r) for r in kept if tables.ROWS.get(r["metric"], ("",))[0] == section]
        if rows:
            parts += [f"## {section}", grid(columns, ([row[column] for column in columns] for row in rows))]
            parts += [
                f"![{shown[name]}](figures/{name})" for name in plots.BY_SECTION.get(section, ()) if name in shown
            ]
    if any(r["metric"] == "engine" for r in kept):
        parts += ["## Against other vector indexes", engines_section(kept)]
        parts += [f"![{shown[plots.COMPARE]}](figures/{plots.COMPARE})"] if plots.COMPARE in shown else []
    if any(r["metric"] == "store_insert" for r in kept):
        parts += ["## Against other durable stores", stores_section(kept)]
    if refused:
        counted = dict.fromkeys(refused)
        parts += [
            "## Not printed",
            "Results that are there, and are not shown until they are measured anew:",
            "\n".join(
                f"- {reason}{f' ({refused.count(reason)} results)' * (refused.count(reason) > 1)}" for reason in counted
            ),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _best(engines: Iterable[Result], target: float) -> dict[str, Result]:
    """The fastest setting of each engine that reaches a recall."""
    best: dict[str, Result] = {}
    for r in engines:
        if r["recall@10"] >= target and (r["engine"] not in best or r["value"] < best[r["engine"]]["value"]):
            best[r["engine"]] = r
    return best


def _shape(r: Result) -> str:
    return f"{r['rows']:,} {r['data']} x {r['dim']}, k = {r['k']}"


def engines_section(results: Sequence[Result]) -> str:
    """One table a recall: each engine's fastest setting that reaches it, and by how much it is behind the fastest."""
    engines = [r for r in results if r["metric"] == "engine"]
    parts = [
        f"{_shape(engines[0])}, one query a call, one thread. Each engine at its fastest setting that reaches the recall."
    ]
    for target in TARGETS:
        best = sorted(_best(engines, target).values(), key=lambda r: r["value"])
        missed = sorted({r["engine"] for r in engines} - {r["engine"] for r in best})
        rows = [
            (
                r["engine"], r["setting"], f"{r['recall@10']:.4f}", number(r["value"]),
                f"{number(r['least'])} to {number(r['most'])}",
                "fastest" if r is best[0] else f"{r['value'] / best[0]['value']:.1f}x as long",
            )
            for r in best
        ]  # fmt: skip
        parts.append(f"**recall@10 of at least {target}**" + (f" (not reached: {', '.join(missed)})" if missed else ""))
        parts.append(grid(("engine", "setting", "recall@10", "us", "range", "fastest"), rows))
    built = sorted((r for r in results if r["metric"] == "engine_build"), key=lambda r: r["value"])
    parts.append("Seconds to build: " + ", ".join(f"{r['engine']} {r['value']:.1f}" for r in built) + ".")
    for r in results:
        if r["metric"] == "engines":
            versions = ", ".join(f"{name} {version}".strip() for name, version in r["versions"].items())
            parts.append(f"Versions: {versions}." + _left_out(r["missing"]))
    return "\n\n".join(parts)


def _left_out(missing: dict[str, str]) -> str:
    return "".join(f" Left out: {name}, {reason}." for name, reason in missing.items())


_STORE_ROWS = (
    ("store_insert", "insert one, us", 1, True), ("store_batch", "insert 1,000 at once, rows/s", -1, True),
    ("store_search", "search, us", 1, False), ("store_reopen", "open and first search, ms", 1, False),
    ("store_disk", "disk, bytes a row", 1, False),
)  # fmt: skip


def stores_section(results: Sequence[Result]) -> str:
    """What each store promises; then a table with a column a store, and who is ahead, writes by what survives."""
    by = {(r["metric"], r["engine"]): r for r in results if r["metric"].startswith("store_")}
    names = list(dict.fromkeys(name for _, name in by))
    final = next(r for r in results if r["metric"] == "stores")
    counted = final.get("syncs_per_insert", {})
    promises = []
    for name in names:
        r = by["store_insert", name]
        syncs = counted.get(name)
        promises.append(
            (name, r["durability"], r["kill -9"], r["power cut"], f"{syncs:.1f}" if syncs is not None else "")
        )
    header = ("store", "as aeon's", "a kill -9 may lose", "a power cut may lose", "syncs an insert (strace)")
    rows = []
    for metric, what, better, by_durability in _STORE_ROWS:
        values = {name: by[metric, name] for name in names}
        cells = []
        for r in values.values():
            tail = f" (P99 {number(r['p99'])})" if "p99" in r else ""
            recall = f", recall@10 {r['recall@10']:.3f}" if "recall@10" in r else ""
            cells.append(f"{number(r['value'])}{tail}{recall}")
        groups = ("full", "normal") if by_durability else (None,)
        ahead = []
        for group in groups:
            rivals = [name for name in names if group in (None, values[name]["durability"])]
            first = min(rivals, key=lambda name: better * values[name]["value"])
            ahead.append(f"{group}: {first}" if group else first)
        rows.append([what, *cells, "; ".join(ahead)])
    size = by["store_insert", names[0]]
    return "\n\n".join([
        f"{size['rows']:,} memories with a text and {size['dim']} dims. Writes are compared where the same survives.",
        grid(header, promises), grid(("", *names, "fastest"), rows), _left_out(final["missing"]).strip(),
    ]).strip()  # fmt: skip


def write(path: Path) -> list[str]:
    """Write README's part, docs/BENCHMARKS.md and the plots; return what was refused, and why."""
    results = load(path)
    kept, refused = printable(results)
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{readme(results)}\n{END}{after}", encoding="utf-8")
    BENCHMARKS.write_text(benchmarks(results), encoding="utf-8")
    plots.draw(kept, FIGURES)
    return refused
