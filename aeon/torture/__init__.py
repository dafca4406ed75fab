"""kill -9 of a real writer on a real disk, again and again: what `aeon torture` runs.

`writer` is the process that is killed, `killer` the one that kills it and judges what is left, `model` what they both know:
a store in plain Python and steps made from a seed.
"""

from __future__ import annotations

from aeon.torture.killer import Torturer, Verdict, torture

__all__ = ["Torturer", "Verdict", "torture"]
