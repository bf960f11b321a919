"""Rows and metadata for the tests of what lists them."""

from __future__ import annotations

from nbstep.cache.records import Facts, Meta
from nbstep.commands.listing import Row, entry_id

NOW = 1_000_000.0
DAY = 86_400.0


def a_row(key: str = "user:1", **fields: object) -> Row:
    row = {
        "id": entry_id(key), "key": key, "label": key, "status": "ok", "type": "builtins.dict", "shape": "3 items",
        "message": "", "size_bytes": 10, "took_s": 1.0, "created": NOW - DAY, "expires_at": None,
    }  # fmt: skip
    return Row(**(row | fields))  # type: ignore[arg-type]


def a_failure(key: str = "user:999", **fields: object) -> Row:
    failure = {"status": "failed", "type": "httpx.HTTPStatusError", "shape": "", "message": "404 Not Found"}
    return a_row(key, **(failure | fields))


def a_meta(key: str, **fields: object) -> Meta:
    meta = {
        "outcome": "ok", "created": NOW - DAY, "size_bytes": 10, "type": "builtins.int", "shape": "", "preview": "1",
        "error": None, "signer": "a1b2c3d4", "trusted": True, "python": "3.11", "packages": {}, "facts": Facts(took_s=2.0),
    }  # fmt: skip
    return Meta(key=key, **(meta | fields))  # type: ignore[arg-type]
