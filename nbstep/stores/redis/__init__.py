"""Entries in a Redis server: `cache="redis://host:6379/0"`, or a client of redis-py.."""
