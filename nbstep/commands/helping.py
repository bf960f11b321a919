"""The verb `help`: all verbs in a list, or one with its options and an example."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Final

from nbstep.commands.documents import fields_text
from nbstep.commands.grammar import VERBS, Verb
from nbstep.commands.helptext import MORE
from nbstep.commands.line import Arguments, CommandOutcome, find_verb
from nbstep.commands.tables import Screen

_WIDEST: Final = 110  # columns: longer lines are hard to read
_NARROW: Final = 72  # where two columns have no room beside one another
_COLUMNS: Final = re.compile(r" +\S.*?\S? {2,}(?=\S)")
_HEAD: Final = (
    "{nbstep} VERB … works on the project's cache; with --cache FOLDER or URL, anywhere behind it, on another one (in a notebook "
    "$name names one, too). "
    "With --json it says the same as one JSON document."
)
_QUERY: Final = "A query: error:  error:TYPE  old:  user:*  unused:30d  any text  (all words must hold)"
_MORE: Final = "More on a verb: {nbstep} help VERB"
_EXIT_CODES: Final = "Exit codes: 0 done, 1 nothing matched or it failed, 2 wrong usage; verify has its own"


def tell_help(arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Explains one verb, or lists all."""
    chosen = [find_verb(word, screen) for word in arguments.words] or [*VERBS.values()]
    lines = _explained(chosen[0]) if arguments.words else _listed(chosen, screen)
    text = "\n".join(_wrapped(lines, min(screen.width, _WIDEST))).replace("{nbstep}", screen.command)
    verbs = [{name: getattr(verb, name) for name in ("name", "arguments", "help", "options")} for verb in chosen]
    return CommandOutcome(text, record={"verbs": verbs})


def _explained(verb: Verb) -> list[str]:
    more = MORE.get(verb.name, "").rstrip().splitlines()
    fields = fields_text(verb.name)
    return [
        f"{{nbstep}} {verb.usage}",
        f"  {verb.help}",
        "",
        *more,
        *(["", f"With --json: {fields}."] if fields else []),
    ]


def _listed(verbs: Sequence[Verb], screen: Screen) -> list[str]:
    usages = [f"{verb.name} {verb.arguments}".rstrip() for verb in verbs]
    column = max(map(len, usages))
    lines = [f"  {usage:<{column}}  {verb.help}" for usage, verb in zip(usages, verbs, strict=True)]
    if screen.width < _NARROW:
        lines = [
            line for usage, verb in zip(usages, verbs, strict=True) for line in (f"  {usage}", f"      {verb.help}")
        ]
    return [_HEAD, "", *lines, "", _QUERY, "", _MORE, *([] if screen.notebook else ["", _EXIT_CODES])]


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Paragraphs in lines of that width; an indented line goes on where its second column begins, or its text."""
    wrapped: list[str] = []
    prose: list[str] = []
    for line in [*lines, ""]:
        if line and not line.startswith(" "):
            prose.append(line)
            continue
        wrapped += _broken(" ".join(prose), "", width) if prose else []
        prose = []
        columns = _COLUMNS.match(line)
        wrapped += _broken(line, " " * (columns.end() if columns else len(line) - len(line.lstrip())), width)
    return wrapped[:-1]


def _broken(line: str, indent: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = indent if len(indent) < width // 2 else " " * 6
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True, replace_whitespace=False,
    )  # fmt: skip
