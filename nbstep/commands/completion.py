"""What can be typed next: verbs, options, keys; for the shells and IPython. It imports little, as it runs at each Tab."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nbstep.commands.grammar import EVERYWHERE, VERBS, Verb
from nbstep.commands.lexing import read_line, written

if TYPE_CHECKING:
    from nbstep.cache.cache import Cache

_FOLD_ABOVE: Final = 100  # candidates; more are offered up to their next separator first
_PART: Final = re.compile(r"[^:/=_ -]*[:/=_ -]")
_VALUES: Final = {"--unused": ("7d", "30d", "90d"), "--back": ("2", "3"), "--as": ()}
_FILES: Final = frozenset({"--cache", "--key-file"})
_SHELLS: Final = ("--version",)


@dataclass(frozen=True, slots=True)
class Completions:
    """What can stand in the place of the current word.

    Attributes:
        texts: The words, not quoted.
        files: File names can stand there, too.
        partly: The texts are beginnings of words.
    """

    texts: tuple[str, ...] = ()
    files: bool = False
    partly: bool = False


def complete(before: Sequence[str], current: str, cache: Cache | None = None) -> Completions:
    """What can follow.

    Args:
        before: The words behind `nbstep` and before the current one.
        current: As much of the current one as stands before the cursor.
        cache: Where keys are; the cache that `--cache` names, else the project's, when None.
    """
    plain, options, folder, dashes, expects = _read(before)
    if expects is not None:
        return Completions(_starting(_VALUES.get(expects, ()), current), files=expects in _FILES)
    verb = VERBS.get(plain[0]) if plain else None
    if current.startswith("-") and not dashes:
        own = verb.options if verb else _SHELLS
        return Completions(_starting(_names(o for o in (*own, *EVERYWHERE) if o.split()[0] not in options), current))
    if not plain:
        return Completions(_starting(VERBS, current))
    words = plain[1:]
    if verb is None or (verb.most is not None and len(words) >= verb.most):
        return Completions()
    keys = [key for key in _keys(verb, folder, cache) if key not in words and (dashes or not key.startswith("-"))]
    found = _starting((*keys, *verb.words), current)
    folded = _folded(found, current)
    files = verb.names == "folders" or (verb.name == "export" and bool(words))
    return Completions(folded, files, partly=folded != found)


def _read(words: Sequence[str]) -> tuple[list[str], set[str], str | None, bool, str | None]:
    """The plain words, the options, the folder of `--cache`, whether `--` stood there, and the option whose value is next."""
    plain: list[str] = []
    options: set[str] = set()
    folder: str | None = None
    dashes, expects = False, None
    for word in words:
        name, equals, value = word.partition("=")
        if expects is not None:
            folder = word if expects == "--cache" else folder
            expects = None
        elif dashes or not word.startswith("-"):
            plain.append(word)
        elif word == "--":
            dashes = True
        else:
            options.add(name)
            folder = value if name == "--cache" and equals else folder
            expects = name if not equals and (name in _VALUES or name in _FILES) else None
    return plain, options, folder, dashes, expects


def _names(options: Iterable[str]) -> list[str]:
    return [option.split()[0] for option in options]


def _starting(words: Iterable[str], current: str) -> tuple[str, ...]:
    return tuple(word for word in words if word.startswith(current))


def _folded(found: tuple[str, ...], current: str) -> tuple[str, ...]:
    if len(found) <= _FOLD_ABOVE:
        return found
    parts: dict[str, None] = {}
    for text in found:
        part = _PART.match(text, len(current))
        parts[text[: part.end()] if part else text] = None
    return tuple(parts) if len(parts) < len(found) else found


def _keys(verb: Verb, folder: str | None, cache: Cache | None) -> list[str]:
    """The keys that a verb's words can name, as lists show them; nothing where they cannot be read."""
    if verb.names in {"", "folders"}:
        return []
    if verb.names == "verbs":
        return [*VERBS]
    from nbstep.commands.keysof import labels_in  # the engine, for keys only

    return labels_in(verb.names, folder, cache)


def complete_for_shell(shell: str, words: Sequence[str]) -> str:
    """What the scripts of `nbstep completion SHELL` ask: flags in the first line, a text in each other one.

    bash gives its line as far as the cursor and the characters at which it breaks words, and takes what it puts in the place of
    the last piece as it is; the others give words and quote by themselves.
    """
    if shell == "bash":
        line = read_line(words[0], words[1])
        found = complete(line.before[1:], line.current)
        texts = [written(text[line.kept :], line.quote) for text in found.texts]
    else:
        *before, current = words or [""]
        found = complete(before, read_line(current).current if shell == "fish" else current)
        texts = [*found.texts]
    flags = [*(["files"] if found.files else []), *(["partly"] if found.partly else [])]
    return "\n".join([" ".join(flags), *texts])
