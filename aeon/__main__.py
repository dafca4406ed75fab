"""`python -m aeon`: the command line without its script."""

from __future__ import annotations

import sys

from aeon.cli import main

if __name__ == "__main__":
    sys.exit(main())
