"""The command line: `aeon COMMAND STORE ...`.

One convention: the store's path is the first argument of every command that works on a store. Results go to stdout,
everything about the work to stderr; `--json` turns results into JSON, one document a line.

    0    done
    1    refused, failed, or a problem was found: one line on stderr, "aeon: ..."
    2    the command line makes no sense
    130  interrupted (Ctrl-C)
    141  whoever read the output stopped reading
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from aeon.cli.arguments import Arguments, build_parser
from aeon.cli.terminal import Terminal
from aeon.errors import AeonError, PoisonedError

OK, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


class Command(Protocol):
    """What a command's function looks like; it returns the exit code."""

    def __call__(self, arguments: Arguments, terminal: Terminal) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return the exit code; never raises, never prints a traceback."""
    try:
        parser = build_parser()
        try:
            arguments = parser.parse_args(argv, namespace=Arguments())
        except SystemExit as ended:  # --help, --version, a wrong argument: argparse has printed what there is to say
            return ended.code if isinstance(ended.code, int) else USAGE
        if not arguments.command:
            parser.print_help(sys.stderr)
            return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    terminal = Terminal(as_json=arguments.json)
    try:
        code = _command(arguments)(arguments, terminal)
        terminal.flush()
        return code
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except PoisonedError as error:
        if isinstance(error.first_cause, KeyboardInterrupt):
            return INTERRUPTED
        return _fail(terminal, str(error))
    except AeonError as error:
        return _fail(terminal, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(terminal, f"{where}{error.strerror or error}")
    except MemoryError:
        return _fail(terminal, "out of memory")
    except Exception as error:
        if os.environ.get("AEON_TRACEBACK"):
            raise
        return _fail(
            terminal,
            f"a defect in aeon: {type(error).__name__}: {error} (AEON_TRACEBACK=1 shows where; please report it)",
        )


def _command(arguments: Arguments) -> Command:
    """Import only the module that the command needs."""
    module, _, name = arguments.function.partition(":")
    command: Command = getattr(import_module(f"aeon.cli.{module}"), name)
    return command


def _fail(terminal: Terminal, message: str) -> int:
    try:
        terminal.note(" ".join(message.split("\n")))
    except BrokenPipeError:
        _silence_stdout()
    return FAILED


def _silence_stdout() -> None:
    """Keep the interpreter from complaining about the pipe when it flushes stdout at its end."""
    try:
        stdout = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stdout)
    os.close(nowhere)
