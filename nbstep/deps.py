"""What a workflow hands to its bodies beside `step`: the user's own dict, also by attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any


class Deps(MutableMapping[str, Any]):
    """The user's own dict of dependencies, which may also be read by attribute: `deps.fetch_user("1")`.

    A name of the dict comes before a method of mappings: with `{"get": fetch}`, `deps.get` is `fetch`.
    """

    __slots__ = ("__weakref__", "_given")

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        given = self._given
        return given[name] if name in given else object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"deps has no {name!r}; it has {', '.join(map(str, self)) or 'nothing'}")

    def __getitem__(self, name: str) -> Any:
        return self._given[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._given[name] = value

    def __delitem__(self, name: str) -> None:
        del self._given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __repr__(self) -> str:
        return repr(self._given)


def given(deps: Deps) -> Mapping[str, Any]:
    """The dict itself; nothing of it can get in the way, as it can with attributes."""
    return object.__getattribute__(deps, "_given")
