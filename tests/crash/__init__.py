"""The crash harness: what a power cut, a failing disk, a kill or damage could leave, and what must be true afterwards."""
