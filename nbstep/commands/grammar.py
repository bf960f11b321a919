"""The table of verbs: how each is called, in words. It imports nothing of the engine, so that completion reads it in no time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

# What a word of a verb names: kept keys; those of kept errors, in the trash; folders; verbs; or words of its own.
Names: TypeAlias = Literal["", "keys", "failed", "trash", "folders", "verbs"]

EVERYWHERE: Final = ("--cache FOLDER", "--json", "--help")  # options of every verb


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table of verbs.

    `most` None takes any number of words; the option `instead` may stand in the place of the `least` ones. With `takes_folder`
    the first word may be the folder of a cache, as of `--cache`. `for_some` is the verb for a part of what this one does to
    everything. `changes` says that it works on no cache that can only be read. Its words are completed by what `names` says and by
    `words`; the `last` one is a folder.
    """

    name: str
    arguments: str
    help: str
    least: int = 0
    most: int | None = 0
    options: tuple[str, ...] = ()
    takes_folder: bool = False
    instead: str = ""
    for_some: str = ""
    changes: bool = False
    names: Names = ""
    words: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """The verb with its arguments."""
        return " ".join(filter(None, (self.name, self.arguments, *(f"[{option}]" for option in self.options))))


_QUERIES: Final = ("error:", "old:", "unused:30d")

VERBS: Final[Mapping[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb("panel", "", "everything kept, to look at, select and delete"),
        Verb("ls", "[QUERY…]", "list what is kept", most=None, options=("--trash",), names="keys", words=_QUERIES),
        Verb("show", "KEY", "one entry in full; --as NAME loads it in a notebook", 1, 1, ("--as NAME",), names="keys"),
        Verb(
            "rm",
            "KEY|GLOB|QUERY…",
            "delete entries, so that their steps run again; --and-later: and all that was made from them",
            1,
            None,
            ("--and-later", "--untrusted"),
            instead="--untrusted",
            changes=True,
            names="keys",
            words=_QUERIES,
        ),
        Verb("clear", "", "delete every entry", for_some="rm", changes=True),
        Verb(
            "undo",
            "[KEY]",
            "bring back what was last deleted or replaced",
            most=1,
            options=("--back N",),
            changes=True,
            names="trash",
        ),
        Verb(
            "retry",
            "[KEY|GLOB|TYPE]",
            "delete the kept errors that the last cell or workflow met, or these",
            most=1,
            changes=True,
            names="failed",
        ),
        Verb(
            "accept",
            "KEY|GLOB|QUERY…",
            "keep old values: they count as made by the code and inputs of now",
            1,
            None,
            changes=True,
            names="keys",
            words=("old:",),
        ),
        Verb(
            "trust",
            "[DIR|KEY|GLOB]",
            "accept what others signed; --rotate: a new key of your own",
            most=1,
            options=("--key-file FILE", "--rotate", "-y"),
            takes_folder=True,
            changes=True,
            names="folders",
        ),
        Verb(
            "verify",
            "[KEY|GLOB]",
            "check every byte; exit code 1 corrupt + 2 untrusted + 4 unreadable",
            most=1,
            names="keys",
        ),
        Verb(
            "gc",
            "",
            "remove old trash, logs, unfinished files; unused entries too",
            options=("--unused DURATION", "--dry-run"),
            changes=True,
        ),
        Verb("doctor", "", "where the cache is and why, what it stands on, how it does"),
        Verb("settings", "", "each setting, its value and where that comes from"),
        Verb("export", "KEY|GLOB|QUERY… FOLDER", "write values as joblib files for others", 2, None, names="keys"),
        Verb(
            "import-joblib",
            "LOCATION [KEY|GLOB…]",
            "list what a joblib.Memory folder holds; take over these of it, or --all",
            1,
            None,
            ("--all", "--replace"),
            changes=True,
            names="folders",
        ),
        Verb(
            "autoload",
            "[on|off]",
            "load nbstep in every kernel of this environment, without %load_ext",
            most=1,
            words=("on", "off"),
        ),
        Verb(
            "completion",
            "bash|zsh|fish",
            "what a shell needs to complete verbs, options and keys",
            1,
            1,
            words=("bash", "zsh", "fish"),
        ),
        Verb("help", "[VERB]", "this list", most=1, names="verbs"),
    )
}  # fmt: skip
