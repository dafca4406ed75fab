"""Numeric kernels of aeon: arrays and scalars in, arrays and status codes out.

Every kernel exists twice under one name and signature: the NumPy twin in `reference` (the executable specification)
and a compiled one. `dispatch.kernels` is whichever serves at the moment. Importing this package imports NumPy only.
"""

from __future__ import annotations

__all__ = ["dispatch", "reference"]
