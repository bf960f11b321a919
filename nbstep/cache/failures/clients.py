"""Classes of errors that botocore makes anew for each session: `s3.exceptions.NoSuchKey` cannot be imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

_MADE_IN: Final = "botocore.errorfactory"


def is_made_by_a_client(cls: type) -> bool:
    """Whether such a class belongs to the clients of one session."""
    return cls.__module__ == _MADE_IN


def class_of_a_client(cls: type, operation: Any) -> type:
    """The class of this name of a client that the notebook holds and that has this operation; else the class itself.

    `except s3.exceptions.NoSuchKey` catches no other.
    """
    for client in _clients():
        if operation in client.meta.service_model.operation_names:
            found = getattr(type(client.exceptions), cls.__name__, None)
            if isinstance(found, type) and is_made_by_a_client(found):
                return found
    return cls


def _clients() -> Iterator[Any]:
    """Clients among the names of the notebook, and those behind the resources of boto3."""
    made_by: Any = sys.modules.get("botocore.client")
    if made_by is None:
        return
    for value in list(vars(sys.modules["__main__"]).values()):
        kind = type(value)
        if issubclass(kind, made_by.BaseClient):
            yield value
        elif kind.__module__.startswith("boto3.resources."):
            yield value.meta.client
