"""`aeon map STORE --out FILE`: the pages of a store as dots in the plane."""

from __future__ import annotations

import os
import warnings
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.cli.arguments import Arguments
from aeon.cli.stores import open_to_read
from aeon.cli.terminal import Terminal
from aeon.cli.values import CommandError, show_count
from aeon.palace import Page
from aeon.store import Store

_LABELS = 12  # pages that are labelled with their medoid's text: the largest
_LABEL_CHARS = 34
_SESSIONS = 9  # sessions with a colour of their own: the largest


def draw(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon map STORE`."""
    kind = os.path.splitext(arguments.out)[1].lower()
    if kind not in (".svg", ".png"):
        raise CommandError(f"{arguments.out}: a name that ends in .svg or .png is needed")
    if os.path.exists(arguments.out) and not arguments.force:
        raise CommandError(f"{arguments.out} is there: --force replaces it")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CommandError("drawing needs matplotlib: pip install 'aeon-memory[map]'") from None
    with open_to_read(arguments) as store:
        pages = [page for page in store.atlas.pages() if len(page)]
        if not pages:
            raise CommandError(f"{arguments.store} holds no vectors: there is nothing to draw")
        figure = Figure(figsize=(10, 7.5), layout="constrained")
        _fill(figure, store, pages, arguments)
    with warnings.catch_warnings():  # a font may lack a letter of a text: a box is drawn
        warnings.simplefilter("ignore")
        figure.savefig(arguments.out, format=kind[1:], dpi=120)
    terminal.note(
        f"drew {show_count(len(pages), 'page')} with {show_count(sum(map(len, pages)), 'memory', 'memories')}"
    )
    return 0


def project(pages: list[Page]) -> NDArray[np.float32]:
    """The centroids in the plane of their two main directions, pages weighted by size: float32[n, 2]."""
    centroids = np.stack([page.centroid for page in pages])
    weights = np.array([len(page) for page in pages], np.float64)
    centred = centroids - np.average(centroids, axis=0, weights=weights)
    _, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    plane = axes[:, -1:-3:-1] if axes.shape[1] > 1 else np.hstack([axes, np.zeros_like(axes)])
    found: NDArray[np.float32] = (centred @ plane).astype(np.float32)
    return found


def _fill(figure: Any, store: Store, pages: list[Page], arguments: Arguments) -> None:
    where = project(pages)
    sizes = np.array([len(page) for page in pages])
    area = 400 * sizes / sizes.max() + 4 if len(pages) < 100 else 120 * sizes / sizes.max() + 2
    axes = figure.add_subplot()
    axes.set_title(
        f"{os.path.basename(os.path.normpath(arguments.store))}: {sizes.sum():,} memories, {len(pages):,} pages"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    members = [page.memories() for page in pages]
    if arguments.colour == "time":
        times = np.array([np.mean([memory.timestamp for memory in memories]) for memories in members])
        dots = axes.scatter(*where.T, s=area, c=times, cmap="viridis", alpha=0.75, linewidths=0)
        bar = figure.colorbar(dots, ax=axes, label="mean time of a page's memories (UTC)")
        ticks = np.linspace(times.min(), times.max(), 5)
        short = np.ptp(times) < 10 * 60e6
        bar.set_ticks(ticks, labels=[_day(tick, "%H:%M:%S" if short else "%Y-%m-%d %H:%M") for tick in ticks])
    else:
        _by_session(axes, where, area, [[memory.session for memory in memories] for memories in members])
    placed: list[NDArray[np.float32]] = []
    apart = 0.05 * float(np.ptp(where, axis=0).max())
    for at in np.argsort(-sizes, kind="stable"):
        medoid = pages[at].medoid
        crowded = any(abs(where[at] - other)[1] < apart and abs(where[at] - other)[0] < 6 * apart for other in placed)
        if medoid is None or crowded:
            continue
        placed.append(where[at])
        text = "".join(c for c in " ".join(medoid.preview.split()) if c.isprintable()).replace("$", r"\$")
        short = text if len(text) <= _LABEL_CHARS else text[: _LABEL_CHARS - 1] + "\u2026"
        axes.annotate(short, where[at], xytext=(4, 4), textcoords="offset points", fontsize=7, color="0.15")
        if len(placed) == _LABELS:
            break


def _by_session(axes: Any, where: NDArray[np.float32], area: NDArray[np.float64], sessions: list[list[str]]) -> None:
    """A colour for each of the largest sessions, grey for all others."""
    names, counts = np.unique([name for page in sessions for name in page], return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")[:_SESSIONS]].tolist()
    colours = dict(zip(largest, [f"C{n}" for n in range(10) if n != 7], strict=False))
    owners = []
    for page in sessions:
        own, count = np.unique(page, return_counts=True)
        owners.append(str(own[count.argmax()]))
    rest = [owner not in colours for owner in owners]
    if any(rest):
        axes.scatter(*where[rest].T, s=area[rest], c="0.7", alpha=0.6, linewidths=0, label="other sessions")
    for name, colour in colours.items():
        own_pages = [owner == name for owner in owners]
        if any(own_pages):
            label = name if len(name) <= _LABEL_CHARS else name[: _LABEL_CHARS - 1] + "\u2026"
            shown = label.replace("$", r"\$").lstrip("_") or "_"
            axes.scatter(*where[own_pages].T, s=area[own_pages], c=colour, alpha=0.75, linewidths=0, label=shown)
    axes.legend(title="most memories of a page are of", fontsize=7, title_fontsize=7, loc="best", markerscale=0.7)


def _day(microseconds: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{microseconds / 1e6:.0f} s"
