"""The intake of usage: events are read strictly, counted once, and kept; every event gets an answer of its own.

`events` and `files` read, `store` takes in, `attribution` counts what came before its customer or metric, `readings`
tells what was counted, `status` tells what became of everything that arrived.
"""
