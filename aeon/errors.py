"""Every error aeon raises, grouped by when it occurs.

AeonError
  OpenError        while a store is opened (LockedError, VersionError, NotAStoreError, EmbedderMismatchError)
  CorruptionError  damaged bytes, at open or when they are read: names file and offset
  UsageError       a call that cannot be carried out; nothing was changed
  PoisonedError    an earlier write or sync failed; the store takes no more writes
"""

from __future__ import annotations


class AeonError(Exception):
    """Base class of every error raised by aeon."""


# -- while opening ------------------------------------------------------------------------------------------------


class OpenError(AeonError):
    """The store could not be opened; nothing on disk was changed."""


class LockedError(OpenError):
    """Another process (or another open store in this one) holds the writer's lock; the message names its pid."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"{path}: already open for writing by {holder}; close it there, or open with read_only=True")
        self.path = path
        self.holder = holder


class VersionError(OpenError):
    """The store was written by a newer format than this version of aeon reads."""


class NotAStoreError(OpenError):
    """The path exists and is not an aeon store, or it does not exist and may not be created."""


class EmbedderMismatchError(OpenError):
    """The embedder or the dimension differs from the one that made the store's vectors."""


# -- damage -------------------------------------------------------------------------------------------------------


class CorruptionError(AeonError):
    """Bytes on disk are not what was written.

    Attributes
    ----------
    path, offset : the file and the byte at which the damaged structure begins.
    expected, found : what the format requires there, and what was read.
    """

    def __init__(self, path: str, offset: int, *, expected: object, found: object) -> None:
        super().__init__(f"{path}, offset {offset}: expected {expected}, found {found}")
        self.path = path
        self.offset = offset
        self.expected = expected
        self.found = found


# -- while using --------------------------------------------------------------------------------------------------


class UsageError(AeonError):
    """The call cannot be carried out as asked; nothing was changed."""


class InvalidInputError(UsageError, ValueError):
    """An argument has a value that aeon cannot keep (NaN, a zero vector, a lone surrogate, k <= 0, ...)."""


class DimensionError(InvalidInputError):
    """A vector's length is not the store's dimension."""


class FilterError(InvalidInputError):
    """A filter is malformed, or names a field that no memory in the store has ever had."""


class CapacityError(UsageError):
    """A limit was reached: text, key, metadata or batch too large, or no space left on the device."""


class NotFoundError(UsageError, KeyError):
    """No memory has this id (or it was forgotten)."""

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return str(self.args[0]) if self.args else ""


class NotRetainedError(UsageError):
    """The store cannot be read as of so early a moment: what has ended since then has left its files."""


class ReadOnlyError(UsageError):
    """The store was opened with read_only=True."""


class ClosedError(UsageError):
    """The store was closed, or belongs to the parent of a forked process."""


class EmbedderMissingError(UsageError):
    """Text was given where a vector is needed, and the store's embedder was not passed to `open`."""


# -- after a failed write -----------------------------------------------------------------------------------------


class PoisonedError(AeonError):
    """A write or a sync failed earlier, so what reached the disk is unknown: the store takes no more writes.

    Reading goes on. Reopen the store: recovery keeps every commit that was acknowledged.

    Attributes
    ----------
    first_cause : the exception of the operation that failed first.
    """

    def __init__(self, first_cause: BaseException) -> None:
        super().__init__(f"no more writes since an earlier one failed: {first_cause!r}; reopen the store to recover")
        self.first_cause = first_cause
