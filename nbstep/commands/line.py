"""The command line of `%nbstep` and `nbstep`: what a verb is, and how a command is read into one."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.where import cache_folder, is_url
from nbstep.commands.grammar import EVERYWHERE, VERBS, Verb
from nbstep.commands.tables import Screen
from nbstep.notes import argument_text
from nbstep.stores.folder import is_cache
from nbstep.words import shown


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """What a verb has to say.

    Attributes:
        text: For the terminal or the cell's output.
        exit_code: 0 done, 1 nothing matched or it failed, 2 wrong usage; of `verify` the bits of what it found.
        opens_panel: The cache whose panel the notebook shows instead of the text.
        binds: A name for the notebook's namespace and its value (`show KEY --as NAME`).
        wrong_usage: The command could not be understood; the text says what to write.
        html: The text as HTML, where a notebook shows more by it.
        record: What `--json` says in the place of the text: a list of records, or facts beside the text (`documents`).
    """

    text: str
    exit_code: int = 0
    opens_panel: Cache | None = None
    binds: tuple[str, Any] | None = None
    wrong_usage: bool = False
    html: str = ""
    record: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Arguments:
    """What stands behind a verb.

    Attributes:
        words: Its words.
        options: Its options, with what stands behind each.
        folder: How the cache is named, if it is.
        met: The keys of the kept errors that the last cell met, by the `scope` of their cache.
    """

    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: str | None = None
    met: Mapping[Hashable, frozenset[str]] = field(default_factory=dict[Hashable, frozenset[str]])

    @property
    def as_json(self) -> bool:
        """`--json`."""
        return "--json" in self.options

    @property
    def as_name(self) -> str | None:
        """`--as NAME`."""
        return self.options.get("--as")

    @property
    def yes(self) -> bool:
        """`-y`: do it without asking."""
        return "-y" in self.options


_VALUED: Final = {
    "--cache": "a folder or a URL",
    "--as": "a name",
    "--key-file": "a file",
    "--unused": "a duration such as 30d",
    "--back": "a number",
}

# What other programs call our verbs.
_MEANT: Final = {
    "delete": "rm", "del": "rm", "remove": "rm", "unlink": "rm", "get": "show", "cat": "show", "info": "show",
    "list": "ls", "keys": "ls", "dir": "ls", "restore": "undo", "status": "doctor", "check": "verify", "prune": "gc",
    "import": "import-joblib", "keep": "accept", "approve": "accept",
}  # fmt: skip


def command_text(verb: str, words: Sequence[str], arguments: Arguments, screen: Screen) -> str:
    """A command to type, for the cache that `arguments` are for.

    >>> command_text("rm --untrusted", ["user 1"], Arguments(folder="../other"), Screen())
    "nbstep rm --untrusted --cache ../other 'user 1'"
    """
    named = arguments.folder
    # In a notebook `$tier` stands for what it has by that name, and is not to be quoted.
    is_name = named is not None and screen.notebook and named.startswith("$")
    folder = [] if named is None else ["--cache", named if is_name else _typed(named, screen)]
    return " ".join([screen.command, verb, *folder, *(_typed(word, screen) for word in words)])


def _typed(word: str, screen: Screen) -> str:
    return argument_text(key_text(word), in_notebook=screen.notebook)


class UsageError(ValueError):
    """A command that cannot be understood; its text says what to write."""


def parse_command(command: str | Sequence[str], screen: Screen) -> tuple[Verb, Arguments]:
    """Reads a command into its verb and its arguments.

    Raises:
        UsageError: It cannot be understood; the text says what to write.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError:
        raise UsageError("A quotation mark is missing its partner.") from None
    plain, options = _split_options(words)
    verb = find_verb(plain[0] if plain else "help", screen)
    _check(verb, plain[1:], options, screen)
    arguments = Arguments(tuple(plain[1:]), options, options.get("--cache"))
    if verb.takes_folder and arguments.folder is None and arguments.words and _is_cache(arguments.words[0]):
        arguments = replace(arguments, words=arguments.words[1:], folder=arguments.words[0])
    return verb, arguments


def missing_folder(word: str) -> str | None:
    """What is wrong with a word that looks like a folder, where no cache is in it; None for one that looks like a key."""
    if not (word in {".", "..", "~"} or word.startswith(("/", "./", "../", "~/")) or os.path.isabs(word)):
        return None
    if _is_cache(word):
        return None
    there = Path(word).expanduser().exists()
    return f"There is no cache in {shown(word)}." if there else f"There is no folder {shown(word)}."


def _is_cache(word: str) -> bool:
    """Whether a word is the folder of a cache, or of a project that has one, or a server's URL."""
    try:
        return is_url(word) or is_cache(cache_folder(Path(word).expanduser()))
    except (OSError, ValueError, RuntimeError):
        return False


def _split_options(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    plain: list[str] = []
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, _, given = word.partition("=")
        if word == "--":
            plain.extend(rest)
        elif word in {"-h", "--help"}:
            plain.insert(0, "help")
        elif name in _VALUED:
            options[name] = given or next(rest, "")
            if not options[name]:
                raise UsageError(f"{name} needs {_VALUED[name]} behind it.")
        elif word.startswith("--") or (word.startswith("-") and len(word) == 2 and word[1].isalpha()):
            options[word] = ""
        else:
            plain.append(word)
    return plain, options


def find_verb(name: str, screen: Screen) -> Verb:
    """The verb of that name.

    Raises:
        UsageError: There is none; the text names the closest.
    """
    if verb := VERBS.get(name):
        return verb
    close = [_MEANT[name]] if name in _MEANT else difflib.get_close_matches(name, VERBS, n=1, cutoff=0.6)
    hint = f"Did you mean {screen.command} {close[0]}?" if close else f"See: {screen.command} help"
    raise UsageError(f"There is no verb {shown(name)!r}. {hint}")


def _check(verb: Verb, words: Sequence[str], options: Mapping[str, str], screen: Screen) -> None:
    usage = f"Usage: {screen.command} {verb.usage}"
    known = {option.partition(" ")[0] for option in (*verb.options, *EVERYWHERE)}
    for option in options:
        if option not in known:
            raise UsageError(f"{verb.name} has no option {shown(option)}. {usage}")
    if "" in words and verb.name != "ls":
        raise UsageError(f"'' names nothing. {usage}")
    least = 0 if verb.instead in options else verb.least
    if len(words) < least or (verb.most is not None and len(words) > verb.most):
        if verb.most == 1 and len(words) > 1 and "KEY" in verb.arguments:
            one, whole = (argument_text(text, in_notebook=screen.notebook) for text in (words[0], " ".join(words)))
            usage += (
                f", one key at a time: {screen.command} {verb.name} {one}"
                f"   A key with spaces is quoted: {screen.command} {verb.name} {whole}"
            )
        if verb.for_some:
            some = " ".join(argument_text(word, in_notebook=screen.notebook) for word in words)
            usage += f", for everything. For these: {screen.command} {verb.for_some} {some}"
        missing = [name.rstrip("…") for name in verb.arguments.split() if not name.startswith("[")][len(words) :]
        if len(words) < least and missing:
            usage = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. {usage}"
        raise UsageError(usage)
    name = options.get("--as")
    if name is not None and not screen.notebook:
        raise UsageError("--as binds a name in a notebook; in a shell there is nothing to bind it to.")
    if name is not None and not name.isidentifier():
        raise UsageError(f"--as {shown(name)}: that is no Python name.")
