"""When a near answer is good enough: measured, not assumed. And whether the conversation has left the store.

`Policy` collects, by the cosine of a query and the entry that would answer it, the recall such answers had against exact
search, and how often the certificate held. From the first it derives tau, the cosine from which on answers reach a
recall target on average; from the second where trying to prove pays.
"""

from __future__ import annotations

import math

LEAST = 0.80  # below that cosine working sets are of no use (docs/decisions/0010)
_BINS = 40  # of 0.005
_SAMPLES_MIN = 64  # before so many were measured, tau stays where it began
_SAMPLES_KEPT = 4096  # older ones lose weight, so that tau follows the conversation
_MARGIN = 0.01  # of recall: what so many samples may be off by
TAU_UNMEASURED = 0.975
_PROOF_ODDS = 0.4  # a failed proof costs some microseconds, a certified hit saves three times as many
_PROOF_TRIES = 12
_EXPLORE = 64  # one in so many is tried all the same


class Policy:
    """Recall and odds of a proof by cosine. Written by one thread at a time, read by any."""

    def __init__(self) -> None:
        self._count = [0.0] * _BINS
        self._recall = [0.0] * _BINS
        self._tried = [0] * _BINS
        self._proven = [0] * _BINS
        self._total = 0.0
        self._taus: dict[float, float] = {}
        self._asked = 0
        self.audits = 0

    def note_recall(self, cosine: float, recall: float) -> None:
        """An answer at that cosine had that recall, measured against exact search."""
        at = _bin(cosine)
        self.audits += 1
        self._count[at] += 1
        self._recall[at] += recall
        self._total += 1
        if self._total > _SAMPLES_KEPT:
            self._count = [value / 2 for value in self._count]
            self._recall = [value / 2 for value in self._recall]
            self._total /= 2
        self._taus = {target: self._find_tau(target) for target in list(self._taus)}  # here, where nobody waits for it

    @property
    def is_measured(self) -> bool:
        """Whether enough was measured for tau to follow it."""
        return self._total >= _SAMPLES_MIN

    def tau(self, target: float) -> float:
        """The least cosine from which on answers had the target recall on average; 2.0 if no cosine has."""
        known = self._taus.get(target)
        if known is None:
            known = self._taus[target] = self._find_tau(target)
        return known

    def _find_tau(self, target: float) -> float:
        count = recall = 0.0
        found = 2.0
        if not self.is_measured:
            return max(TAU_UNMEASURED, target)
        wanted = target + min(_MARGIN, (1 - target) / 4)
        for at in range(_BINS - 1, -1, -1):
            count += self._count[at]
            recall += self._recall[at]
            if count and recall < wanted * count and count >= _SAMPLES_MIN:
                break
            if self._count[at] and recall >= wanted * count:
                found = LEAST + at * (1 - LEAST) / _BINS
        return found

    def measured(self, cosine: float) -> float:
        """Mean recall of what was measured at that cosine or nearer; NaN if nothing was."""
        first = _bin(cosine)
        count = sum(self._count[first:])
        return sum(self._recall[first:]) / count if count else math.nan

    def note_proof(self, cosine: float, proven: bool) -> None:
        """A proof was tried at that cosine."""
        at = _bin(cosine)
        self._tried[at] += 1
        self._proven[at] += proven

    def worth_proving(self, cosine: float) -> bool:
        """Whether a proof at that cosine succeeds often enough to try."""
        if cosine < LEAST:
            return False
        at = _bin(cosine)
        self._asked += 1
        tried = self._tried[at]
        return tried < _PROOF_TRIES or self._proven[at] >= _PROOF_ODDS * tried or self._asked % _EXPLORE == 0


def _bin(cosine: float) -> int:
    return min(_BINS - 1, max(0, int((cosine - LEAST) / (1 - LEAST) * _BINS)))


class Drift:
    """Rolling figures: how much is answered from the cache, and how near the best row is to what is asked.

    Attributes
    ----------
    hit_rate, usual_hit_rate : of the last hundred queries or so, and of some thousand before.
    best, usual_best : mean cosine of a query and the best row found, likewise.
    """

    _FAST, _SLOW = 1 / 64, 1 / 2048  # of the queries; one in eight brings a score
    _WARM = 128  # scores before anything is said
    SHIFT, COOLED = 0.1, 0.05

    def __init__(self) -> None:
        self.hit_rate = self.usual_hit_rate = 0.0
        self.best = self.usual_best = 0.0
        self._noted = 0
        self._scored = 0
        self._told = False

    def note(self, hits: int, asked: int) -> None:
        """Of so many queries so many were answered from the cache."""
        self._noted += asked
        rate = hits / asked
        self.hit_rate += (rate - self.hit_rate) * min(1.0, max(asked * self._FAST, asked / self._noted))
        self.usual_hit_rate += (rate - self.usual_hit_rate) * min(1.0, max(asked * self._SLOW, asked / self._noted))

    def note_best(self, score: float) -> None:
        """The best row found for a query had that cosine."""
        self._scored += 1
        self.best += (score - self.best) * max(self._FAST, 1 / self._scored)
        self.usual_best += (score - self.usual_best) * max(self._SLOW, 1 / self._scored)

    @property
    def shift(self) -> float:
        """By how much recent queries lie farther from the store than they used to; negative if nearer."""
        return self.usual_best - self.best

    def warning(self) -> str:
        """What to log now: once for each drift, with what to do; "" if there is nothing to say."""
        if self._scored < self._WARM or self._told:
            self._told = self._told and self.shift > self.COOLED
            return ""
        if self.shift <= self.SHIFT:
            return ""
        self._told = True
        return (
            f"queries find less than they used to: the best memory has a cosine of {self.best:.2f} on average, it was "
            f"{self.usual_best:.2f} (hit rate {self.hit_rate:.0%}, was {self.usual_hit_rate:.0%}). Either the "
            "conversation has moved on to what the store does not hold: remember it. Or the queries come from another "
            "model than the memories: compare the model and its version with store.embedder, and embed anew if it changed."
        )
