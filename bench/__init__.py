"""Benchmarks of aeon: `python -m bench all | list | run | report | compare`. Tests assert no time; these carry the figures."""
