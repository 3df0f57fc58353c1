"""Conformance: worked cases of other billing systems, and the adapters that put them to our engine.

`cases/` holds the cases as data with their sources; there is one adapter per kind, with `answer(case)`. Adapters know
shapes and named options, no single case, and compute nothing themselves.
"""
