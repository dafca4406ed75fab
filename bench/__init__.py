"""Benchmarks of aeon: `python -m bench list | run | report`. Tests never assert a time; these carry the figures."""
