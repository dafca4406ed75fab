"""A transaction: operations that become one commit."""

from __future__ import annotations


class Transaction:
    """The commit that is being put together; ids are given out from where the log stands."""

    def __init__(self, first_id: int) -> None:
        self.first_id = self.next_id = first_id
        self.bodies: list[bytes] = []
        self.forgotten: set[int] = set()
        self.links: dict[tuple[int, int, str], bool] = {}  # (src, dst, kind): made (True) or ended (False)
        self.outgoing: dict[str, dict[int, set[int]]] = {}  # by kind and src: where the links lead that it makes
        self.archived: dict[int, bool] = {}  # archived (True) or restored (False)
        self.concepts: dict[tuple[tuple[str, ...], str], int] = {}
        self.sessions: list[str] = []  # of the memories it adds, in order
        self.branches: set[str] = set()

    def add(self, body: bytes, ids: int) -> int:
        """Add operations and return the first id of the memories among them."""
        first = self.next_id
        self.bodies.append(body)
        self.next_id += ids
        return first

    def forget(self, ids: list[int]) -> list[int]:
        """Note that `ids` are forgotten; return those that were not before."""
        new = [id_ for id_ in ids if id_ not in self.forgotten]
        self.forgotten.update(new)
        return new

    def note_links(self, pairs: list[tuple[int, int]], kind: str, *, made: bool) -> None:
        """Note that links (src, dst) of a kind are made, or ended."""
        outgoing = self.outgoing.setdefault(kind, {})
        for src, dst in pairs:
            self.links[src, dst, kind] = made
            ends = outgoing.setdefault(src, set())
            (ends.add if made else ends.discard)(dst)

    def owns(self, id_: int) -> bool:
        """Whether the id was given out by this transaction."""
        return self.first_id <= id_ < self.next_id
