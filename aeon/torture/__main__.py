"""`python -m aeon.torture`: the helper that forks writers; see `writer`."""

from aeon.torture.writer import serve

if __name__ == "__main__":
    serve()
