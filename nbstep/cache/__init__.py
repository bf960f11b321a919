"""Entries kept under keys: look up, keep, delete, undo. `cache.py` is the way in."""
