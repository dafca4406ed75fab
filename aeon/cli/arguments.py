"""The arguments of every command. Nothing heavy is imported here: this is what `aeon --help` needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aeon._version import __version__
from aeon.cli import values
from aeon.format import ROLES

if TYPE_CHECKING:
    _Parsers = _SubParsersAction[ArgumentParser]

DESCRIPTION = """\
A memory store that lives inside your agent's process and loses nothing.
A store is a directory; its path is the first argument of every command."""

EPILOG = """\
first steps:
  aeon demo                                 see what it does, in seconds
  aeon remember agent.aeon "Tess moved to Trieste"
  aeon recall agent.aeon "where does Tess live?"
  aeon ingest agent.aeon chat.jsonl         a conversation, a memory a line
  aeon sessions agent.aeon

Times are UTC. `-` as a file is stdin or stdout. Every command takes --json.
Exit codes: 0 done; 1 refused or a problem found, in one line on stderr;
2 wrong usage; 130 interrupted."""


class Arguments(Namespace):
    """What the command line says; each command reads the attributes it declared."""

    command: str = ""
    function: str = ""
    json: bool = False


class _Formatter(RawDescriptionHelpFormatter):
    """Descriptions as they stand; commands and what they do side by side."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)
        self._action_max_length = 14  # argparse forgets that commands are indented, and breaks the line of the longest


class _CommandParser(ArgumentParser):
    """Takes options between the arguments too: `aeon forget STORE --yes 3 4`, which plain argparse refuses."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._inside:  # parse_known_intermixed_args calls this in turn
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def build_parser() -> ArgumentParser:
    """Return the parser of all commands."""
    parser = ArgumentParser(
        prog="aeon", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Formatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"aeon {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_CommandParser)
    for add in _COMMANDS:
        add(cast("_Parsers", commands))
    return parser


def _add(
    commands: _Parsers, name: str, function: str, summary: str, details: str = "", example: str = ""
) -> ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[:1].upper()}{summary[1:]}.\n{details}",
        epilog=f"example:\n  {example}" if example else None,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    command.set_defaults(function=function)
    command.add_argument("--json", action="store_true", help="print JSON, one document a line")
    return command


def _store(command: ArgumentParser, *, made: bool = False) -> None:
    command.add_argument(
        "store", metavar="STORE", help="path of the store" + (", made if it is not there" if made else "")
    )


def _embed(command: ArgumentParser) -> None:
    command.add_argument(
        "--embed",
        metavar="MODULE:NAME",
        help="the store's own embedder, imported from here; see examples/ (default: built in)",
    )


def _durability(command: ArgumentParser) -> None:
    command.add_argument(
        "--durability",
        choices=("full", "normal", "off"),
        default="full",
        help="full: acknowledged means on disk (default); normal: survives the process; off: fastest",
    )


def _filters(command: ArgumentParser, *, all_of_them: bool) -> None:
    command.add_argument("--session", metavar="S", action="append", help="only this session; may be given again")
    command.add_argument("--namespace", metavar="A/B", type=values.namespace_argument, help="only below this namespace")
    command.add_argument(
        "--where",
        metavar="JSON",
        type=values.object_argument,
        help="""filter on metadata: '{"topic": "move", "n": {"$gte": 3}}'""",
    )
    if all_of_them:
        command.add_argument(
            "--role", metavar="R", action="append", choices=ROLES, help="only this role; may be given again"
        )
        command.add_argument(
            "--since", metavar="TIME", type=values.time_argument, help="not before: 2026-03-02, or seconds"
        )
        command.add_argument("--until", metavar="TIME", type=values.time_argument, help="before this time")


# -- the commands, in the order of the help -----------------------------------------------------------------------


def _demo(commands: _Parsers) -> None:
    command = _add(
        commands,
        "demo",
        "demo:demo",
        "the whole story: remember, recall, crash, recover",
        "Needs nothing but the installation: no model, no network. Takes a few seconds.",
        "aeon demo --keep demo.aeon",
    )
    command.add_argument(
        "--keep", metavar="PATH", help="make the store here and leave it (default: a temporary directory)"
    )


def _remember(commands: _Parsers) -> None:
    command = _add(
        commands,
        "remember",
        "writing:remember",
        "keep one memory",
        "Prints its id, once it is on disk.",
        'aeon remember agent.aeon "Gravy is a dog." --session monday --metadata \'{"topic": "pets"}\'',
    )
    _store(command, made=True)
    command.add_argument("text", metavar="TEXT", help="the text; - reads stdin")
    command.add_argument("--session", metavar="S", default="default", help="where it belongs (default: %(default)s)")
    command.add_argument("--role", choices=ROLES, default="user", help="who said it (default: %(default)s)")
    command.add_argument(
        "--namespace", metavar="A/B", type=values.namespace_argument, default=(), help="segments, with slashes"
    )
    command.add_argument("--key", help="replace what this key names; the version before stays readable by its id")
    command.add_argument("--metadata", metavar="JSON", type=values.object_argument, help="fields to filter on")
    command.add_argument("--timestamp", metavar="TIME", type=values.time_argument, help="when it was (default: now)")
    command.add_argument(
        "--vector", metavar="JSON", type=values.vector_argument, help="its vector, if the store keeps yours"
    )
    _embed(command)


def _recall(commands: _Parsers) -> None:
    command = _add(
        commands,
        "recall",
        "reading:recall",
        "find the memories nearest to a question",
        "",
        'aeon recall agent.aeon "where does Tess live?" -k 3 --since 2026-03-01',
    )
    _store(command)
    command.add_argument("query", metavar="QUERY", help="a text; - reads stdin")
    command.add_argument(
        "-k", metavar="K", type=values.positive_argument, default=5, help="how many (default: %(default)s)"
    )
    command.add_argument("--vector", action="store_true", help="QUERY is a vector: a JSON list of numbers")
    command.add_argument("--exact", action="store_true", help="scan every vector")
    command.add_argument("--full", action="store_true", help="whole texts, not their first lines")
    _filters(command, all_of_them=True)
    _embed(command)


def _history(commands: _Parsers) -> None:
    command = _add(
        commands,
        "history",
        "reading:history",
        "show a session, oldest first",
        "",
        "aeon history agent.aeon monday --limit 20",
    )
    _store(command)
    command.add_argument("session", metavar="SESSION")
    command.add_argument(
        "--limit",
        metavar="N",
        type=values.count_argument,
        default=50,
        help="the newest N; 0 = all (default: %(default)s)",
    )
    command.add_argument("--before", metavar="ID", type=values.positive_argument, help="older than this memory")


def _trace(commands: _Parsers) -> None:
    command = _add(
        commands,
        "trace",
        "episodes:trace",
        "draw the episode graph of a session",
        "As a tree: the session's memories, sessions that branch off, edges.",
        "aeon trace agent.aeon monday --svg monday.svg",
    )
    _store(command)
    command.add_argument("session", metavar="SESSION")
    command.add_argument(
        "--limit",
        metavar="N",
        type=values.count_argument,
        default=50,
        help="the newest N of each session; 0 = all (default: %(default)s)",
    )
    command.add_argument("--svg", metavar="FILE", help="draw it into an SVG file instead")
    command.add_argument("--graphml", metavar="FILE", help="write it as GraphML instead (needs networkx)")


def _dream(commands: _Parsers) -> None:
    command = _add(
        commands,
        "dream",
        "episodes:dream",
        "consolidate what is old, cold and redundant",
        """\
Episodes of old memories that are hardly recalled are replaced by a summary,
made of their own sentences; the originals are archived: out of recall, still in
the history. `aeon dream STORE --undo ID` takes one back.""",
        "aeon dream agent.aeon --dry-run",
    )
    _store(command)
    _embed(command)
    command.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    command.add_argument("--undo", metavar="ID", type=values.positive_argument, help="undo the consolidation into ID")
    command.add_argument("--session", metavar="S", action="append", help="only this session; may be given again")
    command.add_argument("--older-than", metavar="DAYS", type=float, default=30.0, help="days (default: %(default)s)")
    command.add_argument(
        "--gap", metavar="HOURS", type=float, default=6.0, help="a longer pause ends an episode (default: %(default)s)"
    )
    command.add_argument(
        "--size-min",
        metavar="N",
        type=values.positive_argument,
        default=4,
        help="leave episodes of fewer memories (default: %(default)s)",
    )
    command.add_argument(
        "--retention",
        metavar="R",
        type=float,
        default=0.3,
        help="only what is retained less, 0 to 1 (default: %(default)s)",
    )
    command.add_argument(
        "--redundancy",
        metavar="C",
        type=float,
        default=0.0,
        help="only episodes as alike, 0 to 1 (default: %(default)s)",
    )
    command.add_argument("--fold", action="store_true", help="archive exact repeats first")


def _get(commands: _Parsers) -> None:
    command = _add(commands, "get", "reading:get", "show one memory whole", "", "aeon get agent.aeon 17")
    _store(command)
    command.add_argument("id", metavar="ID", type=values.positive_argument)


def _sessions(commands: _Parsers) -> None:
    _store(_add(commands, "sessions", "reading:sessions", "list the sessions", "", "aeon sessions agent.aeon"))


def _stats(commands: _Parsers) -> None:
    _store(_add(commands, "stats", "reading:stats", "show figures of the store", "", "aeon stats agent.aeon"))


def _forget(commands: _Parsers) -> None:
    command = _add(
        commands,
        "forget",
        "writing:forget",
        "forget memories, by id or all that match",
        "With filters it asks before it forgets, or wants --yes.",
        "aeon forget agent.aeon --session monday --dry-run",
    )
    _store(command)
    command.add_argument("ids", metavar="ID", nargs="*", type=values.positive_argument)
    _filters(command, all_of_them=False)
    command.add_argument("--dry-run", action="store_true", help="only say how many")
    command.add_argument("--yes", action="store_true", help="do not ask")


def _ingest(commands: _Parsers) -> None:
    command = _add(
        commands,
        "ingest",
        "ingest:ingest",
        "remember every line of a file",
        """\
FILE.jsonl (or .ndjson), one object a line:
  text       or content; a list of parts is joined
  role       or speaker: user, assistant, system, tool; human is user; ai, bot
             and a speaker called system are assistant; other names are user,
             and kept in the metadata
  session    or session_id, dialogue, conversation; a text before a number
  timestamp  or created_at: ISO 8601, or a number (s, ms, us, ns by its size)
  metadata   an object; every field not named here goes there too
  vector     if the store keeps its caller's vectors; a new one does if the
             first line has one
FILE.txt (or .md): a memory a paragraph, or a line (--split line).
Both may be gzipped: FILE.jsonl.gz.

Every batch is one commit. A broken line stops it: what came before is kept,
and the message tells the line to go on from.""",
        "aeon ingest agent.aeon chat.jsonl.gz --session monday",
    )
    _store(command, made=True)
    command.add_argument("file", metavar="FILE", help="- is stdin")
    command.add_argument(
        "--session", metavar="S", help="session of every memory (default: as the line says, else the file's name)"
    )
    command.add_argument("--session-field", metavar="FIELD", help="the field that names the session")
    command.add_argument("--role", choices=ROLES, help="role of every memory (default: as the line says, else user)")
    command.add_argument(
        "--namespace", metavar="A/B", type=values.namespace_argument, default=(), help="of every memory"
    )
    command.add_argument(
        "--format", choices=("jsonl", "text"), help="of FILE (default: by its name; of stdin: by its first byte)"
    )
    command.add_argument(
        "--split",
        choices=("paragraph", "line"),
        default="paragraph",
        help="what one memory of a text is (default: %(default)s)",
    )
    command.add_argument(
        "--from-line", metavar="N", type=values.positive_argument, default=1, help="leave out the lines before"
    )
    command.add_argument("--skip-broken", action="store_true", help="go on behind broken lines, and count them")
    command.add_argument(
        "--batch", metavar="N", type=values.positive_argument, default=1000, help="memories a commit (default: 1000)"
    )
    _durability(command)
    _embed(command)


def _export(commands: _Parsers) -> None:
    command = _add(
        commands,
        "export",
        "transfer:export",
        "write all current memories as JSON lines",
        """\
The first line describes the store, every other one is a memory, in the order
of ids. Older versions under a key are left out. What JSON cannot say is
wrapped: bytes in metadata become {"$base64": ...}.""",
        "aeon export agent.aeon backup.jsonl --vectors",
    )
    _store(command)
    command.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: stdout")
    command.add_argument(
        "--vectors",
        choices=("base64", "list"),
        nargs="?",
        const="base64",
        help="write vectors too (base64: of float32)",
    )
    command.add_argument("--force", action="store_true", help="replace FILE if it is there")


def _import(commands: _Parsers) -> None:
    command = _add(
        commands,
        "import",
        "transfer:import_",
        "read what export wrote",
        """\
Memories get new ids; parents and refs are mapped to them. Text, session,
role, timestamp, namespace, key and metadata are kept. Without vectors in FILE
the texts are embedded anew: export, then import --embed, moves a store to
another embedder.""",
        "aeon import copy.aeon backup.jsonl",
    )
    _store(command, made=True)
    command.add_argument("file", metavar="FILE", help="- is stdin")
    _durability(command)
    _embed(command)


def _check(commands: _Parsers) -> None:
    _store(
        _add(
            commands,
            "check",
            "reading:check",
            "verify every byte of the store against every other",
            "Changes nothing. Exit code 1 if a problem was found.",
            "aeon check agent.aeon",
        )
    )


def _repair(commands: _Parsers) -> None:
    command = _add(
        commands,
        "repair",
        "upkeep:repair",
        "salvage a damaged store into a new one",
        """\
Takes what is provably whole, under the ids it had, and lists what was lost:
which memories, which bytes, why. Nothing in STORE is changed; close its
writer first. Exit code 1 if anything was lost or is doubtful. A store that
was merely interrupted needs no repair: opening it recovers it.""",
        "aeon repair agent.aeon --to saved.aeon",
    )
    _store(command)
    command.add_argument("--to", metavar="NEW", required=True, help="the new store, where nothing is yet")
    command.add_argument(
        "--dim", metavar="N", type=values.positive_argument, help="length of the vectors, if the MANIFEST is lost"
    )
    command.add_argument("--embedder", metavar="NAME", help="what made the vectors, if the MANIFEST is lost")


def _backup(commands: _Parsers) -> None:
    command = _add(
        commands,
        "backup",
        "upkeep:backup",
        "copy a store, verified, while its writer goes on",
        """\
The copy is a store: open it, check it, recall from it. It appears whole or not
at all, and holds every commit that was acknowledged before the command began.""",
        "aeon backup agent.aeon /backups/agent-2026-11-24.aeon",
    )
    _store(command)
    command.add_argument("dest", metavar="DEST", help="the copy, where nothing is yet")


def _restore(commands: _Parsers) -> None:
    command = _add(
        commands,
        "restore",
        "upkeep:backup",
        "copy a backup back, verified",
        """\
The same copy the other way. A store that is in the way is never replaced: move
it aside first.""",
        "aeon restore /backups/agent-2026-11-24.aeon agent.aeon",
    )
    command.add_argument("store", metavar="BACKUP", help="path of the backup")
    command.add_argument("dest", metavar="STORE", help="the store to make, where nothing is yet")


def _torture(commands: _Parsers) -> None:
    command = _add(
        commands,
        "torture",
        "torture:torture",
        "kill -9 a writer on your own disk, again and again, and see",
        """\
Makes stores of its own in DIR. Writers are killed at random moments while they
commit, checkpoint and are read; each store is then opened and compared with
what its writer had been told. Exit code 1 if anything was lost. What a power
cut does to the disk's own cache is not tried.""",
        "aeon torture /mnt/disk --kills 1000",
    )
    command.add_argument("folder", metavar="DIR", nargs="?", default=".", help="on the disk to test (default: here)")
    command.add_argument(
        "--kills", metavar="N", type=values.positive_argument, default=100, help="how many (default: %(default)s)"
    )
    command.add_argument("--durability", choices=("full", "normal"), help="default: half of each")
    command.add_argument("--seconds", metavar="S", type=float, help="stop after about so long")
    command.add_argument(
        "--seed", metavar="N", type=values.count_argument, default=0, help="of steps and moments (default: %(default)s)"
    )


def _inspect(commands: _Parsers) -> None:
    command = _add(
        commands,
        "inspect",
        "inspection:inspect",
        "show what is in a file of a store, byte by byte",
        """\
Any of them: MANIFEST, LOCK, wal/*.wal, gen-*/*.arena, gen-*/*.tbl; or a
store, for the list of its files. Fields are named as in docs/FORMAT.md. A
damaged file is described as far as it goes, and makes the exit code 1.
Changes nothing.""",
        "aeon inspect agent.aeon/wal/00000001.wal --limit 3 --fields",
    )
    command.add_argument("file", metavar="FILE")
    command.add_argument(
        "--offset", metavar="BYTE", type=values.count_argument, default=0, help="begin at the first record from here on"
    )
    command.add_argument(
        "--limit",
        metavar="N",
        type=values.count_argument,
        default=20,
        help="records to show; 0 = all (default: %(default)s)",
    )
    command.add_argument(
        "--fields", action="store_true", help="every field of every record on its own line, with its meaning"
    )


def _map(commands: _Parsers) -> None:
    command = _add(
        commands,
        "map",
        "mapping:draw",
        "draw a store: its pages as dots in the plane",
        """\
A page holds memories that lie near to each other; its dot stands where the two
main directions among all pages put it, as large as it has memories. By session
it has the colour of the session most of them belong to, by time that of their
mean age. Needs matplotlib: pip install 'aeon-memory[map]'.""",
        "aeon map agent.aeon --out palace.svg",
    )
    _store(command)
    command.add_argument("--out", metavar="FILE", required=True, help="ends in .svg or .png")
    command.add_argument(
        "--colour", choices=("session", "time"), default="session", help="what colours mean (default: %(default)s)"
    )
    command.add_argument("--force", action="store_true", help="replace FILE if it is there")


def _checkpoint(commands: _Parsers) -> None:
    _store(
        _add(
            commands,
            "checkpoint",
            "writing:checkpoint",
            "fold the log into a generation",
            "The next open then replays nothing.",
            "aeon checkpoint agent.aeon",
        )
    )


def _compact(commands: _Parsers) -> None:
    command = _add(
        commands,
        "compact",
        "writing:compact",
        "give back the space of what was forgotten",
        "With --purge nothing that was forgotten is in any file afterwards.",
        "aeon compact agent.aeon --purge",
    )
    _store(command)
    command.add_argument("--purge", action="store_true", help="erase: from the log and from slack as well")


def _warmup(commands: _Parsers) -> None:
    _add(
        commands,
        "warmup",
        "writing:warmup",
        "compile the kernels ahead of their first use",
        "Works without a store. The compiled code is kept, so it is done once per machine.",
        "aeon warmup",
    )


_COMMANDS: tuple[Callable[[_Parsers], None], ...] = (
    _demo,
    _remember,
    _recall,
    _history,
    _trace,
    _get,
    _sessions,
    _stats,
    _forget,
    _ingest,
    _export,
    _import,
    _check,
    _repair,
    _backup,
    _restore,
    _inspect,
    _dream,
    _map,
    _checkpoint,
    _compact,
    _torture,
    _warmup,
)
