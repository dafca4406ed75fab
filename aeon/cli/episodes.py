"""Commands about the episode graph: trace, dream."""

from __future__ import annotations

import difflib
from datetime import timedelta

from aeon.cli.arguments import Arguments
from aeon.cli.drawing import strand, svg, tree
from aeon.cli.stores import open_to_read, open_to_write
from aeon.cli.terminal import Terminal, printable
from aeon.cli.values import CommandError, show_count, show_time
from aeon.store import Store


def trace(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon trace STORE SESSION`."""
    with open_to_read(arguments) as store:
        _require_session(store, arguments.session)
        part = strand(store, arguments.session, arguments.limit or None)
        if arguments.svg:
            _write(terminal, arguments.svg, svg(store, part))
        if arguments.graphml:
            _write(terminal, arguments.graphml, _graphml(store, arguments.session))
        if arguments.svg or arguments.graphml:
            return 0
        if terminal.as_json:
            strands = [part]
            while strands:
                one = strands.pop(0)
                for memory in one.memories:
                    edges = [edge._asdict() for edge in one.edges[memory.id]]
                    archived = memory.id in one.archived
                    terminal.emit({**memory.to_dict(), "branches_off": one.off, "archived": archived, "edges": edges})
                strands += [other for others in one.branches.values() for other in others]
        else:
            for line in tree(part):
                terminal.line(line)
    return 0


def _write(terminal: Terminal, path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    terminal.emit({"file": path}) if terminal.as_json else terminal.line(f"wrote {printable(path)}")


def _graphml(store: Store, session: str) -> str:
    try:
        return store.trace.to_graphml(session=session)
    except ImportError as error:
        raise CommandError(str(error)) from None


def _require_session(store: Store, session: str) -> None:
    names = list(store._view().engine.trace.names.session_numbers)
    if session not in names:
        near = difflib.get_close_matches(session, names, 1)
        raise CommandError(f"no session {session!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _duration(option: str, value: float, unit: str) -> timedelta:
    try:
        return timedelta(**{unit: value})
    except (OverflowError, ValueError):
        raise CommandError(f"{option} {value}: no number of {unit}") from None


def dream(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon dream STORE`."""
    with open_to_read(arguments) if arguments.dry_run else open_to_write(arguments, terminal) as store:
        if arguments.undo is not None:
            if arguments.dry_run:
                raise CommandError("--undo with --dry-run: which of the two?")
            back = store.undo(arguments.undo)
            terminal.emit({"undone": arguments.undo, "restored": back}) if terminal.as_json else terminal.line(
                f"#{arguments.undo} is undone: {show_count(len(back), 'memory', 'memories')} back in recall"
            )
            return 0
        for session in arguments.session or ():
            _require_session(store, session)
        report = store.dream(
            dry_run=arguments.dry_run, session=arguments.session,
            older_than=_duration("--older-than", arguments.older_than, "days"), retention_below=arguments.retention,
            redundancy=arguments.redundancy, gap=_duration("--gap", arguments.gap, "hours"),
            size_min=arguments.size_min, fold=arguments.fold,
        )  # fmt: skip
        if terminal.as_json:
            for group in report.folded:
                terminal.emit({"dry_run": report.dry_run, "folded": list(group.ids)})
            for episode in report.episodes:
                terminal.emit({"dry_run": report.dry_run, **vars(episode), "ids": list(episode.ids)})
            return 0
        would = "would be " if report.dry_run else ""
        for group in report.folded:
            rest = " ".join(f"#{id_}" for id_ in group.ids[1:])
            terminal.line(f"{would}folded into #{group.ids[0]}: {rest}")
        for episode in report.episodes:
            place = f"{show_time(episode.since)} to {show_time(episode.until)}, {printable(episode.session)}"
            made = f" into #{episode.summary_id}" if episode.summary_id else ""
            count = show_count(len(episode.ids), "memory", "memories")
            terminal.line(
                f"{place}: {count} {would}consolidated{made} "
                f"(retention {episode.retention:.2f}, redundancy {episode.redundancy:.2f})"
            )
            terminal.text(episode.summary, indent=4)
        if not report.folded and not report.episodes:
            terminal.line("nothing is old and cold enough")
    return 0
