"""The keys of the items of a `step.map`."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from nbstep.batch.checks import KEY, check_parameters
from nbstep.collisions.compare import scalars_differ
from nbstep.collisions.look import Sight, is_scalar, sight
from nbstep.collisions.message import value_text
from nbstep.errors import KeyCollision
from nbstep.foreign import interrupts
from nbstep.keys import NoStableText, check_key, fill_template
from nbstep.keytable import KeyTable

_BY_NAME: Final = 10_000  # so many keys are remembered with what their items were
_DIGEST: Final = (1 << 32) - 1

_VERBATIM: Final = frozenset({str, int})


class Keyed(NamedTuple):
    """One item of a `step.map`."""

    item: Any
    key: str | None


class Keys:
    """Gives the items of one `step.map` their keys.

    What the items were is remembered without holding on to them, as they may be large and many.

    Args:
        key: A function of the item, or a template.
        with_f: The key with the `f` that was forgotten, where it was.

    Attributes:
        count: How many keys it gave, each counted once.
        digest: A number that is the same for the same keys, in whatever order.

    Raises:
        TypeError: `key` is neither a function nor a template.
        ValueError: It is a template without a place for the item.
    """

    def __init__(self, key: object, with_f: str | None) -> None:
        self.count = self.digest = 0
        self._make = _key_function(key)
        self._with_f = with_f
        self._first: dict[str, Sight] = {}  # what the first item of a key was
        self._others = KeyTable()  # of the keys that follow only a digest of that

    def names(self) -> tuple[str, ...]:
        """The keys, where they are few enough to be known by name; none else."""
        return tuple(self._first) if len(self._first) == self.count else ()

    def give(self, items: Iterable[Any]) -> Iterator[Keyed]:
        """The items with their keys, one after the other.

        Raises:
            TypeError: The function makes no text of an item.
            ValueError: The template has no place for an item.
            KeyCollision: Two items that certainly differ have one key: one would be given the other's result (K8).
        """
        for given in self.again(items):
            if given.key is not None:
                self._check(given.key, given.item)
            yield given

    def again(self, items: Iterable[Any]) -> Iterator[Keyed]:
        """As `give`, for items whose keys were looked at before."""
        for item in items:
            made = self._make(item)
            yield Keyed(item, None if made is None else check_key(made))

    def _check(self, key: str, item: Any) -> None:
        first, seen = self._first, sight(item)
        if key not in first:
            if len(first) < _BY_NAME:
                first[key] = seen
                self._count(key)
                return
            digest = _digest(seen)
            known = self._others.add(key, digest)
            if known is None:
                self._count(key)
            elif known and digest and known != digest:
                raise self._collision(f"the item {value_text(seen)} and an earlier one", key)
        elif scalars_differ(first[key], seen):
            raise self._collision(f"the items {value_text(first[key])} and {value_text(seen)}", key)

    def _count(self, key: str) -> None:
        self.count += 1
        self.digest ^= hash(key)

    def _collision(self, items: str, key: str) -> KeyCollision:
        written = f"write f before the quotes: key=lambda …: {self._with_f}" if self._with_f else None
        return KeyCollision(
            f"step.map: {items} would share the key {key!r}; {written or 'put into the key what tells them apart'}"
        )


def _digest(seen: Sight) -> int:
    """A number that differs only for scalars that do; 0 for what is none."""
    if not is_scalar(seen):
        return 0
    return hash(seen) & _DIGEST or 1 if seen == seen else 1  # all NaN are one


def _filled(template: str, item: object) -> str:
    try:
        return fill_template(template, item)
    except NoStableText as error:
        text = str(error).replace("step.key cannot", f"step.map: key={template!r} cannot")
        raise TypeError(text.replace("pass what", "write key=lambda item: f'…' with what")) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        meant = _part_meant(template, item)
        in_parts = _in_parts(template, item)
        says = f": write key={in_parts!r}" if in_parts else f": write {meant}" if meant else f" ({error})"
        raise ValueError(
            f"key={template!r} does not fit the item {item!r:.80}{says}; {{}} stands for the item, and for parts of it "
            "write key=lambda item: f'…'"
        ) from None


def _in_parts(template: str, item: object) -> str | None:
    """`{0[0]}:{0[1]}` for `{}:{}` and for `{0}:{1}`, where the item is a tuple or a list of as many parts."""
    parsed = list(string.Formatter().parse(template))
    names = [name for _, name, _, _ in parsed if name is not None]
    if not isinstance(item, tuple | list):
        return None
    count, unnumbered = len(cast("Sequence[object]", item)), not any(names)
    # Numbered ones each once or more, and more than the one that is the item.
    if not (len(names) == count if unnumbered else count > 1 and set(names) == set(map(str, range(count)))):
        return None
    written, numbers = "", itertools.count()
    for literal, name, spec, conversion in parsed:
        written += literal.replace("{", "{{").replace("}", "}}")
        if name is not None:
            how = (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            written += f"{{0[{next(numbers) if unnumbered else name}]{how}}}"
    return written if _fits(written, item) else None


def _part_meant(template: str, item: object) -> str | None:
    """`key='user:{0[id]}'` for `user:{[id]}`: the template with the item's number in its places, where that is all they lack."""
    written = ""
    for literal, name, spec, conversion in string.Formatter().parse(template):
        written += literal.replace("{", "{{").replace("}", "}}")
        if name is None:
            continue
        how = (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        head, dot, rest = re.split(r"([.\[]|$)", name, maxsplit=1)
        firsts = (head,) if head.isdecimal() else (f"0[{head}]", f"0.{head}") if head else ("0",)
        places = [place for first in firsts if _fits(place := f"{{{first}{dot}{rest}{how}}}", item)]
        if not places:
            return None
        written += places[0]
    return f"key={written!r}" if written != template else None


def _fits(template: str, item: object) -> bool:
    try:
        fill_template(template, item)
    except interrupts():
        raise
    except Exception:  # noqa: BLE001 - of the item's own class: the error that is told is that of the template as it stands
        return False
    return True


def _key_function(key: object) -> Callable[[Any], str | None]:
    if isinstance(key, str):
        try:
            parsed = list(string.Formatter().parse(key))
        except ValueError as error:
            raise ValueError(f"key={key!r} is no template ({error}); double a brace that is meant: {{{{ }}}}") from None
        fields = [(name, spec, conversion) for _, name, spec, conversion in parsed if name is not None]
        if not fields:
            raise ValueError(
                f"key={key!r} would be the same for every item; write where the item goes: key={(key or 'item') + ':{}'!r}"
            )
        if fields == [("", "", None)] and "\0" not in key:
            before, after = fill_template(key, "\0").split("\0")
            # Most maps: a formatter takes ten times as long for a text or a whole number, and gives the same.
            return lambda item: f"{before}{item}{after}" if type(item) in _VERBATIM else _filled(key, item)
        return lambda item: _filled(key, item)
    if callable(key):
        check_parameters(key, KEY)
        return cast("Callable[[Any], str | None]", key)
    raise TypeError(
        f'step.map needs a key for each item: key=lambda item: f"user:{{item}}" or key="user:{{}}"; got {key!r}'
    )
