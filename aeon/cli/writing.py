"""Commands that change a store, or the machine: remember, forget, checkpoint, compact, warmup."""

from __future__ import annotations

import sys
import time

from aeon import intake
from aeon.cli.arguments import Arguments
from aeon.cli.reading import read_stdin
from aeon.cli.stores import open_to_write, require_embedder
from aeon.cli.terminal import Terminal
from aeon.cli.values import CommandError, show_bytes, show_count


def remember(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon remember STORE TEXT`."""
    text = read_stdin() if arguments.text == "-" else arguments.text
    intake.encode_text(text)  # before a store is made for it
    if not text.strip():
        raise CommandError("there is no text to remember")
    dim = len(arguments.vector) if arguments.vector is not None and not arguments.embed else None
    with open_to_write(arguments, terminal, create=True, dim=dim) as store:
        if require_embedder(arguments, store) and arguments.vector is not None:
            raise CommandError(
                f"{arguments.store} makes its vectors itself; --vector would mix two kinds that cannot be compared"
            )
        id_ = store.remember(
            text,
            arguments.vector,
            session=arguments.session,
            role=arguments.role,
            namespace=arguments.namespace,
            key=arguments.key,
            metadata=arguments.metadata,
            timestamp=arguments.timestamp,
        )
        has_vector = store.get(id_).vector is not None
    if terminal.as_json:
        terminal.emit({"id": id_, "session": arguments.session, "vector": has_vector})
    else:
        terminal.line(f"remembered as #{id_}")
        if not has_vector:
            terminal.note("without a vector: it is in the history, and recall will not find it")
    return 0


def forget(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon forget STORE [ID...]`."""
    by_filter = arguments.session is not None or arguments.namespace is not None or arguments.where is not None
    if bool(arguments.ids) == by_filter:
        raise CommandError("forget what? Give ids, or --session, --namespace, --where (--where '{}' is everything)")
    with open_to_write(arguments, terminal) as store:
        if by_filter:
            chosen = store.memories(session=arguments.session, namespace=arguments.namespace, where=arguments.where)
            count = sum(1 for _ in chosen)
        else:
            for id_ in arguments.ids:
                store.get(id_)  # a mistyped id is better told than counted as 0
            count = len(set(arguments.ids))
        if arguments.dry_run:
            forgotten = 0
        elif by_filter and count and not arguments.yes and not _confirmed(terminal, count):
            raise CommandError("nothing was forgotten")
        elif by_filter:
            forgotten = store.forget(where=arguments.where, session=arguments.session, namespace=arguments.namespace)
        else:
            forgotten = store.forget(arguments.ids)
    if terminal.as_json:
        terminal.emit({"forgotten": forgotten, "matching": count})
    elif arguments.dry_run:
        terminal.line(f"would forget {show_count(count, 'memory')}")
    else:
        terminal.line(f"forgot {show_count(forgotten, 'memory')}")
    return 0


def _confirmed(terminal: Terminal, count: int) -> bool:
    """Ask the person at the terminal; in a script, --yes has to say so."""
    if not (sys.stdin.isatty() and terminal.interactive):
        raise CommandError(f"this would forget {show_count(count, 'memory')}: say --yes to do it, or --dry-run to look")
    terminal.out.write(f"Forget {show_count(count, 'memory')}? [y/N] ")
    terminal.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def checkpoint(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon checkpoint STORE`."""
    begin = time.perf_counter()
    with open_to_write(arguments, terminal) as store:
        before = store.stats()
        with terminal.progress("writing a generation", None):
            generation = store.checkpoint()
        after = store.stats()
    seconds = time.perf_counter() - begin
    if terminal.as_json:
        terminal.emit(
            {
                "generation": generation,
                "written": generation != before.generation,
                "log_bytes": after.log_bytes,
                "disk_bytes": after.disk_bytes,
                "seconds": round(seconds, 3),
            }
        )
    elif generation == before.generation:
        terminal.line(
            f"nothing to do: generation {generation} holds everything"
            if generation
            else "nothing to do: the store is empty"
        )
    else:
        terminal.text(
            f"generation {generation} holds {show_count(after.memories, 'memory')}; "
            f"{show_bytes(after.disk_bytes)} on disk, "
            f"the log is {show_bytes(after.log_bytes)} ({seconds:.2f} s)"
        )
    return 0


def compact(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon compact STORE`."""
    with open_to_write(arguments, terminal) as store:
        with terminal.progress("writing a generation", None):
            report = store.compact(purge=arguments.purge)
        disk_bytes = store.stats().disk_bytes
    if terminal.as_json:
        terminal.emit({
            "generation": report.generation, "memories": report.memories, "dropped": report.dropped,
            "bytes_before": report.bytes_before, "bytes_after": report.bytes_after, "disk_bytes": disk_bytes,
            "purged": report.purged, "seconds": round(report.seconds, 3),
        })  # fmt: skip
    else:
        terminal.text(
            f"generation {report.generation} holds {show_count(report.memories, 'memory')}, "
            f"{show_count(report.dropped, 'forgotten one')} left out; {show_bytes(disk_bytes)} on disk"
            f"{'; what was forgotten is in no file' if report.purged else ''} ({report.seconds:.2f} s)"
        )
    return 0


def warmup(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon warmup`."""
    from aeon_native.warm_up import warm_up

    begin = time.perf_counter()
    try:
        with terminal.progress("compiling", None) as progress:
            compiled = warm_up(lambda name, seconds: progress.to(0, note=name))
    except ImportError as error:
        raise CommandError(f"kernels cannot be compiled here: {error}; the NumPy twins serve instead") from error
    from aeon_native import _jit

    seconds = time.perf_counter() - begin
    kept = str(_jit.cache_directory) if _jit.cache_directory else None
    if terminal.as_json:
        kernels = [{"kernel": name, "seconds": round(took, 4)} for name, took in compiled]
        terminal.emit({"simd": _jit.simd_path, "seconds": round(seconds, 3), "cache": kept, "kernels": kernels})
        return 0
    terminal.table(("seconds", "kernel"), [(f"{took:.3f}", name) for name, took in compiled], right=(0,))
    terminal.line()
    terminal.text(
        f"ready in {seconds:.1f} s, {_jit.simd_path}, "
        + (f"kept in {kept}" if kept else f"not kept: {_jit.cache_error}")
    )
    return 0
