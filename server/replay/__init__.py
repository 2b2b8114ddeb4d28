"""Replay: the real policy, store, batcher and refresher on a trace, in virtual time."""
