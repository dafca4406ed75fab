"""The plots: recall against time, growth with the number of rows, latency over time. Matplotlib only when drawing.

A plot carries the digest of the results it was drawn from, so that a test can tell an old one without drawing it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
COMPARE, GROWTH, MIXED = "recall-against-time.svg", "growth-with-rows.svg", "latency-over-time.svg"
BY_SECTION = {"Searching": (GROWTH,), "Writing and searching at once": (MIXED,)}
INK, FAINT, AEON, SECOND = "#222222", "#9a9a9a", "#c2410c", "#1d4ed8"
# A grey line each, told apart by its label; two shades keep neighbours apart.
GREYS = ("#4b5563", "#94a3b8")


def _engines(results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r["metric"] == "engine"]


def _growth(results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r["metric"] == "growth" and r["kept_as"] == "int8"]


def _mixed(results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r["metric"] == "mixed_recall" and "series" in r]


_SOURCES: dict[str, tuple[Callable[[Sequence[Result]], list[Result]], str]] = {
    COMPARE: (_engines, "Time per query against recall, aeon and other vector indexes"),
    GROWTH: (_growth, "Time per search from 10,000 to a million rows"),
    MIXED: (_mixed, "Latency of recall and remember over ten minutes of mixed load"),
}


def available(results: Sequence[Result]) -> dict[str, str]:
    """Plots there are results for, with what they show."""
    return {name: alt for name, (of, alt) in _SOURCES.items() if of(results)}


def digest(name: str, results: Sequence[Result]) -> str:
    """What a plot of these results has to carry."""
    shown = [{key: r[key] for key in r if key != "machine"} for r in _SOURCES[name][0](results)]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:20]


def carried(path: Path) -> str:
    """The digest a plot was drawn with."""
    found = re.search(r"results ([0-9a-f]{20})", path.read_text(encoding="utf-8"))
    return found[1] if found else ""


def draw(results: Sequence[Result], folder: Path, suffix: str = ".svg") -> None:
    """Draw what there are results for."""
    painters = {COMPARE: _draw_engines, GROWTH: _draw_growth, MIXED: _draw_mixed}
    for name in available(results):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        look = {
            "font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "aeon", "svg.fonttype": "none",
            "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT, "axes.labelcolor": INK,
            "xtick.color": INK, "ytick.color": INK, "text.color": INK,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        with rc_context(look):
            figure = Figure(layout="constrained")
            painters[name](figure, _SOURCES[name][0](results))
            target = (folder / name).with_suffix(suffix)
            metadata = {"Date": None, "Description": f"results {digest(name, results)}"} if suffix == ".svg" else None
            figure.savefig(target, dpi=130, metadata=metadata)


def _title(axes: Any, text: str, below: str) -> None:
    axes.set_title(f"{text}\n", loc="left", fontsize=11, fontweight="bold")
    axes.text(0, 1.02, below, transform=axes.transAxes, fontsize=8.5, color="#555555")


def _times_up(axes: Any) -> None:
    """A log axis of microseconds, read as us and ms."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    def shown(y: float, _: object) -> str:
        return f"{y:g} us" if y < 1000 else f"{y / 1000:g} ms"

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(shown))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#eeeeee", lw=0.8)


def _spread(places: list[float], least: float) -> list[float]:
    """Places of labels, moved apart so that neighbours are `least` apart, in the order given (rising)."""
    moved = list(places)
    for _ in range(200):
        for n in range(1, len(moved)):
            lack = least - (moved[n] - moved[n - 1])
            if lack > 0:
                moved[n - 1] -= lack / 2
                moved[n] += lack / 2
    return moved


def _draw_engines(figure: Any, engines: list[Result]) -> None:
    """One line an engine, labelled at its right end; what is missed on a log axis, so that 0.99 and 0.999 lie apart."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    figure.set_size_inches(8.4, 5.2)
    axes = figure.subplots()
    lines = {}
    for name in dict.fromkeys(r["engine"] for r in engines):
        mine: list[Result] = []
        for r in sorted((r for r in engines if r["engine"] == name), key=lambda r: -r["recall@10"]):
            if not mine or r["value"] < mine[-1]["value"]:  # nothing finds more in less time
                mine.append(r)
        mine.reverse()
        lines[name] = [max(1 - r["recall@10"], 5e-4) for r in mine], [r["value"] for r in mine]
    names = sorted(lines, key=lambda name: lines[name][1][-1])
    for n, name in enumerate(names):
        own = name.startswith("aeon")
        color = AEON if own else GREYS[n % 2]
        axes.plot(*lines[name], "o-", color=color, lw=2.4 if own else 1.1, ms=4 if own else 2.6, zorder=3 if own else 2)
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(0.16, 4e-4)
    marks = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 5e-4)
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "1" if x <= 5e-4 else f"{1 - x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(FixedLocator([]))
    _times_up(axes)
    ends = _spread([float(np.log10(lines[name][1][-1])) for name in names], _label_step(axes, figure))
    leader = {"arrowstyle": "-", "lw": 0.6, "ls": (0, (1, 3)), "shrinkA": 2, "shrinkB": 3}
    for name, place in zip(names, ends, strict=True):
        own = name.startswith("aeon")
        axes.annotate(
            name, (lines[name][0][-1], lines[name][1][-1]), (1.02, 10**place), textcoords=axes.get_yaxis_transform(),
            color=AEON if own else GREYS[0], fontsize=9, fontweight="bold" if own else "normal", va="center",
            arrowprops={**leader, "color": AEON if own else FAINT},
            annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel("recall@10 (better to the right)")
    axes.set_ylabel("time per query (better below)")
    first = engines[0]
    _title(
        axes, "Time per query against recall",
        f"{first['rows']:,} {first['data']} x {first['dim']}, k = {first['k']}, one query a call from Python, one thread",
    )  # fmt: skip


def _label_step(axes: Any, figure: Any) -> float:
    """How far apart labels have to be, in decades of the y axis."""
    import numpy as np

    low, high = axes.get_ylim()
    return float(np.log10(high / low)) * 0.19 / float(figure.get_size_inches()[1])


def _draw_growth(figure: Any, grown: list[Result]) -> None:
    """Median and P99 from the smallest size to the largest, each point with its recall."""
    from matplotlib.ticker import FixedLocator

    figure.set_size_inches(7.2, 3.8)
    axes = figure.subplots()
    grown = sorted(grown, key=lambda r: r["rows"])
    rows = [r["rows"] for r in grown]
    for key, color, label in (("value", AEON, "median"), ("p99", GREYS[0], "P99")):
        values = [r[key] for r in grown]
        axes.plot(rows, values, "o-", color=color, lw=2.2 if key == "value" else 1.2, ms=4)
        axes.annotate(label, (rows[-1], values[-1]), (8, 0), textcoords="offset points", color=color, va="center")
    for r in grown:
        axes.annotate(
            f"{r['value']:.1f} us\nrecall {r['recall@10']:.3f}", (r["rows"], r["value"]), (0, -26), ha="center",
            textcoords="offset points", fontsize=8, color=INK,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="time per search")
    axes.set_xlim(rows[0] / 1.8, rows[-1] * 2.2)
    least, most = min(r["value"] for r in grown), max(r["p99"] for r in grown)
    axes.set_ylim(least / 2.2, most * 1.6)
    axes.set_xticks(rows, [f"{count:,}" for count in rows])
    axes.xaxis.set_minor_locator(FixedLocator([]))
    _times_up(axes)
    _title(
        axes,
        "Search as a store grows",
        f"generated rows x {grown[0]['dim']}, k = {grown[0]['k']}, INT8, default recall target",
    )


def _draw_mixed(figure: Any, found: list[Result]) -> None:
    """Two panels over the same minutes: recall and remember, median and P99 of each slice."""
    import numpy as np

    figure.set_size_inches(8.4, 4.6)
    series = found[0]["series"]
    minutes = [row["second"] / 60 for row in series]
    panels = figure.subplots(2, 1, sharex=True)
    kinds = (("p50", "median", 2.0, 1.0), ("p99", "P99", 1.1, 0.8), ("most", "longest", 0.6, 0.45))
    for axes, name, color in zip(panels, ("recall", "remember"), (AEON, SECOND), strict=True):
        for key, _, width, alpha in kinds:
            axes.plot(minutes, [row[f"{name}_{key}"] for row in series], color=color, lw=width, alpha=alpha)
        axes.set(yscale="log", ylabel=name)
        _times_up(axes)
        ends = [float(np.log10(series[-1][f"{name}_{key}"])) for key, *_ in kinds]
        for (_, label, _, alpha), place in zip(kinds, _spread(ends, 2 * _label_step(axes, figure)), strict=True):
            axes.text(
                1.01, 10**place, label, transform=axes.get_yaxis_transform(), fontsize=8, va="center", color=color,
                alpha=max(alpha, 0.7), clip_on=False,
            )  # fmt: skip
        axes.set_xlim(0, minutes[-1])
    panels[1].set_xlabel("minutes")
    first = found[0]
    _title(
        panels[0], "Latency over time, four recalls to one durable remember",
        f"{first['calls_per_second']:,} calls a second, from the moment each was due; {first['rows']:,} to "
        f"{first['rows_at_the_end']:,} rows x {first['dim']}, recall@10 {first['recall@10']:.3f}",
    )  # fmt: skip
