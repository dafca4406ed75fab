"""A directory that appears whole or not at all: made under another name, synced, renamed.

Order of writes and syncs; a power cut at any point leaves nothing at the target, or all of it:
  1. whoever fills the directory syncs each file it writes
  2. the names inside every directory are synced, then the names in the new directory itself
  3. it is renamed to the target, and the directory that holds it is synced
What an interrupted run leaves is called TARGET.partial-XXXXXXXX and may be deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aeon.errors import InvalidInputError
from aeon.files import FileSystem, parent


def require_free(files: FileSystem, target: str) -> None:
    """Raise InvalidInputError unless nothing stands at `target` and its parent is a directory."""
    if files.exists(target):
        raise InvalidInputError(f"{target} is there already: give a path where nothing is")
    if not files.is_dir(parent(target)):
        raise InvalidInputError(f"{parent(target)} is no directory: make it first")


@contextmanager
def staged(files: FileSystem, target: str) -> Iterator[str]:
    """Give a new directory to fill; when the block ends it stands at `target`, on disk. After an error nothing does."""
    require_free(files, target)
    made = f"{target}.partial-{os.urandom(4).hex()}"
    files.mkdir(made)
    try:
        yield made
        for name in files.listdir(made):
            if files.is_dir(f"{made}/{name}"):
                files.fsync_dir(f"{made}/{name}")
        files.fsync_dir(made)
        require_free(files, target)  # a rename would replace an empty directory that came meanwhile
        files.rename(made, target)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what the caller is told
            remove_tree(files, made)
        raise
    files.fsync_dir(parent(target))


def remove_tree(files: FileSystem, path: str) -> None:
    """Delete a directory of files and of directories of files."""
    for name in files.listdir(path):
        inner = f"{path}/{name}"
        remove_tree(files, inner) if files.is_dir(inner) else files.unlink(inner)
    files.rmdir(path)
