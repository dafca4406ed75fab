"""The episode graph of a session as a tree of text, and as an SVG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aeon.cli.terminal import printable, shorten
from aeon.results import Edge, Memory
from aeon.store import Store

_WIDE, _HIGH, _ROW, _COLUMN = 250, 40, 64, 330  # of a box, and from one to the next
_TEXT = 34  # characters in a box
_COLOURS = {
    "user": "#dbeafe", "assistant": "#dcfce7", "system": "#f3f4f6", "tool": "#fef3c7", "concept": "#fae8ff",
    "summary": "#fee2e2",
}  # fmt: skip


@dataclass
class Strand:
    """A session: its own memories, the edges that leave or reach each, and the sessions that branch off after each."""

    name: str
    memories: list[Memory]
    off: int | None = None
    edges: dict[int, list[Edge]] = field(default_factory=dict)
    archived: set[int] = field(default_factory=set)
    branches: dict[int, list[Strand]] = field(default_factory=dict)


def strand(store: Store, session: str, limit: int | None, seen: frozenset[str] = frozenset()) -> Strand:
    """Read a session, and those that branch off from what is shown of it."""
    names = store._view().engine.trace.names
    number = names.session_numbers[session]
    branch = names.branches.get(number)
    own = [memory for memory in store.history(session, limit) if memory.session == session]
    made = Strand(session, own, branch[0] if branch else None)
    for memory in own:
        made.edges[memory.id] = store.trace.neighbours(memory.id)
        if store.trace.is_archived(memory.id):
            made.archived.add(memory.id)
        for other in names.branches_from.get(memory.id, ()):
            name = names.sessions[other]
            if name not in seen:
                made.branches.setdefault(memory.id, []).append(strand(store, name, limit, seen | {session}))
    return made


def tree(part: Strand, indent: str = "") -> Iterator[str]:
    """Lines of the tree."""
    came = f" (branches off #{part.off})" if part.off is not None else ""
    yield f"{indent}{printable(part.name)}{came}"
    for n, memory in enumerate(part.memories):
        last = n == len(part.memories) - 1
        flag = " (archived)" if memory.id in part.archived else ""
        yield f"{indent}{'└─' if last else '├─'} #{memory.id} {memory.role}{flag}: {printable(memory.preview)}"
        inner = indent + ("   " if last else "│  ")
        for edge in part.edges[memory.id]:
            if edge.src == memory.id:
                yield f"{inner}  {printable(edge.kind)} → #{edge.dst}"
            else:
                yield f"{inner}  {printable(edge.kind)} ← #{edge.src}"
        for other in part.branches.get(memory.id, ()):
            yield from tree(other, inner)


def svg(store: Store, part: Strand) -> str:
    """The graph as a picture: a column for each session, one more for what lies outside, an arrow for each edge."""
    places: dict[int, tuple[int, int]] = {}
    heads: list[tuple[int, int, str]] = []
    arrows: list[tuple[int, int, str]] = []
    archived: set[int] = set()
    column = 0

    def place(one: Strand, row: int) -> None:
        nonlocal column
        mine, column = column, column + 1
        heads.append((mine, row, one.name))
        before = one.off
        for memory in one.memories:
            row += 1
            places[memory.id] = (mine, row)
            if before is not None:
                arrows.append((before, memory.id, ""))
            before = memory.id
        archived.update(one.archived)
        for id_, others in one.branches.items():
            for other in others:
                place(other, places[id_][1])

    place(part, 0)
    strands = [part]
    while strands:
        one = strands.pop()
        strands += [other for others in one.branches.values() for other in others]
        for edges in one.edges.values():
            arrows += [(edge.src, edge.dst, edge.kind) for edge in edges]
    rows = max([row for _, row in places.values()], default=0)
    outside = sorted({end for src, dst, _ in arrows for end in (src, dst)} - set(places))
    for n, id_ in enumerate(outside):
        places[id_] = (column, n + 1)
    if outside:
        heads.append((column, 0, "elsewhere"))
        column, rows = column + 1, max(rows, len(outside))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{column * _COLUMN + 40}" height="{(rows + 1) * _ROW + 40}" '
        'font-family="sans-serif" font-size="12">',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker></defs>',
    ]
    for where, row, name in heads:
        lines.append(
            f'<text x="{20 + where * _COLUMN}" y="{40 + row * _ROW}" font-weight="bold">{_told(name, 40)}</text>'
        )
    for src, dst, kind in dict.fromkeys(arrows):
        lines += _arrow(places[src], places[dst], kind)
    for id_, (where, row) in places.items():
        memory = store.get(id_)
        x, y = 20 + where * _COLUMN, 20 + row * _ROW
        dashed = ' stroke-dasharray="4 3"' if id_ in archived else ""
        lines += [
            f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="6" fill="{_COLOURS[memory.role]}" '
            f'stroke="#6b7280"{dashed}/>',
            f'<text x="{x + 8}" y="{y + 15}" fill="#6b7280">#{id_} {memory.role}</text>',
            f'<text x="{x + 8}" y="{y + 31}">{_told(memory.preview, _TEXT)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _told(text: str, most: int) -> str:
    return escape(shorten(printable(text), most))


def _arrow(start: tuple[int, int], end: tuple[int, int], kind: str) -> list[str]:
    (a, b), (c, d) = start, end
    x1, y1 = 20 + a * _COLUMN + _WIDE, 20 + b * _ROW + _HIGH // 2
    x2, y2 = 20 + c * _COLUMN, 20 + d * _ROW + _HIGH // 2
    if not kind and a == c:  # the order of a session: straight down
        x = 20 + a * _COLUMN + _WIDE // 2
        path = f"M{x} {20 + b * _ROW + _HIGH}L{x} {20 + d * _ROW}"
    elif a < c:
        path = f"M{x1} {y1}C{x1 + 40} {y1} {x2 - 40} {y2} {x2} {y2}"
    else:  # within a column, or backwards: around the right side
        x2 += _WIDE
        reach = max(x1, x2) + 50
        path = f"M{x1} {y1}C{reach} {y1} {reach} {y2} {x2} {y2}"
    lines = [f'<path d="{path}" fill="none" stroke="#6b7280" marker-end="url(#end)"/>']
    if kind:
        x = (x1 + x2) // 2 if a < c else max(x1, x2) + 20
        lines.append(f'<text x="{x}" y="{(y1 + y2) // 2 - 4}" fill="#6b7280" font-size="10">{_told(kind, 20)}</text>')
    return lines
