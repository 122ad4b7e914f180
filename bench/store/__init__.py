"""Measurements of the store: `python -m bench.store.sizes DATA`, `python -m bench.store.jigsaw DATA`."""
