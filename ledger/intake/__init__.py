"""The intake of usage: events are read strictly, counted once, and kept; every event gets an answer of its own.

`events` and `files` read, `store` takes in, `rules` says what an event is to a metric, `rollup` adds it to the totals,
`attribution` counts what came before its customer or metric, `readings` and `counting` tell what was counted, `status`
tells what became of everything that arrived.
"""
