"""The keys of the items of a `step.map`."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

from nbstep.collisions.compare import scalars_differ
from nbstep.collisions.look import sight
from nbstep.collisions.message import value_text
from nbstep.errors import KeyCollision
from nbstep.keys import NoStableText, check_key, fill_template

_VERBATIM: Final = frozenset({str, int})


class Keyed(NamedTuple):
    """One item of a `step.map`."""

    item: Any
    key: str | None


def keyed(items: Iterable[Any], key: object, with_f: str | None) -> Iterator[Keyed]:
    """Gives the items their keys, one after the other.

    Args:
        items: The items.
        key: A function of the item, or a template.
        with_f: The key with the `f` that was forgotten, where it was.

    Raises:
        TypeError: `key` is neither a function nor a template, or makes no text of an item.
        ValueError: The template has no place for the item.
        KeyCollision: Two items that certainly differ have one key: one would be given the other's result (K8).
    """
    make_key = _key_function(key)
    first: dict[str, Any] = {}
    for item in items:
        made = make_key(item)
        if made is None:
            yield Keyed(item, None)
            continue
        item_key = check_key(made)
        other = first.setdefault(item_key, item)
        if other is not item:
            _check_shared(other, item, item_key, with_f)
        yield Keyed(item, item_key)


def _check_shared(other: Any, item: Any, key: str, with_f: str | None) -> None:
    if not scalars_differ(sight(other), sight(item)):
        return
    fix = f"write f before the quotes: key=lambda …: {with_f}" if with_f else "put into the key what tells them apart"
    raise KeyCollision(
        f"step.map: the items {value_text(sight(other))} and {value_text(sight(item))} would share the key {key!r}; {fix}"
    )


def _filled(template: str, item: object) -> str:
    try:
        return fill_template(template, item)
    except NoStableText as error:
        text = str(error).replace("step.key cannot", f"step.map: key={template!r} cannot")
        raise TypeError(text.replace("pass what", "write key=lambda item: f'…' with what")) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"key={template!r} does not fit the item {item!r:.80} ({error}); {{}} stands for the item, and for parts of it "
            "write key=lambda item: f'…'"
        ) from None


def _key_function(key: object) -> Callable[[Any], str | None]:
    if isinstance(key, str):
        try:
            parsed = list(string.Formatter().parse(key))
        except ValueError as error:
            raise ValueError(f"key={key!r} is no template ({error}); double a brace that is meant: {{{{ }}}}") from None
        fields = [(name, spec, conversion) for _, name, spec, conversion in parsed if name is not None]
        if not fields:
            raise ValueError(
                f"key={key!r} would be the same for every item; write where the item goes: key={key + ':{}'!r}"
            )
        if fields == [("", "", None)] and "\0" not in key:
            before, after = fill_template(key, "\0").split("\0")
            # Most maps: a formatter takes ten times as long for a text or a whole number, and gives the same.
            return lambda item: f"{before}{item}{after}" if type(item) in _VERBATIM else _filled(key, item)
        return lambda item: _filled(key, item)
    if callable(key):
        return cast("Callable[[Any], str | None]", key)
    raise TypeError(
        f'step.map needs a key for each item: key=lambda item: f"user:{{item}}" or key="user:{{}}"; got {key!r}'
    )
