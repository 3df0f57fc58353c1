"""What something costs: pure functions over frozen dataclasses.

Standard library only: no clock, no I/O, no third-party package, so that every figure can be
recomputed anywhere from its arguments. Nothing in the project is imported here.
"""
