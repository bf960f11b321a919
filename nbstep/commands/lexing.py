"""A line as far as the cursor, as a shell reads it: its words, and how the last one is being quoted. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PLAIN: Final = re.compile(r"[^\w@%+=:,./-]")  # what a backslash has to stand before


@dataclass(frozen=True, slots=True)
class Line:
    """A line as far as the cursor.

    Attributes:
        before: Its whole words.
        current: The last one, as far as it goes.
        quote: The quotation mark that is open in it, or "".
        kept: How many characters of it stand before the piece that is replaced.
        typed: How many characters of the line it takes, quotation marks and backslashes included.
    """

    before: tuple[str, ...]
    current: str
    quote: str
    kept: int
    typed: int


def read_line(text: str, breaks: str = "") -> Line:
    r"""Reads a line; `breaks` are the characters behind which a new piece begins, where they are not quoted.

    >>> read_line("nbstep rm user:1 'key w")
    Line(before=('nbstep', 'rm', 'user:1'), current='key w', quote="'", kept=0, typed=6)
    >>> read_line(r"nbstep rm key\ 1:a", " :=").kept
    6
    """
    words: list[str] = []
    word, quote, kept, began, begun = "", "", 0, 0, False
    chars = enumerate(text)
    for at, char in chars:
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"':
                _, following = next(chars, (0, ""))
                word += following if following in '"\\$`' else char + following
            else:
                word += char
        elif char in "'\"":
            quote, kept, begun = char, len(word), True
        elif char == "\\":
            word, begun = word + next(chars, (0, ""))[1], True
        elif char.isspace():
            words += [word] if begun else []
            word, kept, began, begun = "", 0, at + 1, False
        else:
            word, begun = word + char, True
            kept = len(word) if char in breaks else kept
    return Line(tuple(words), word, quote, kept, len(text) - began)


def written(text: str, quote: str) -> str:
    r"""Text as it stands behind what is typed already: in quotation marks of that kind, else with backslashes.

    >>> written("a b's", ""), written("a b's", "'"), written('say "hi!"', '"')
    ("a\\ b\\'s", "a b'\\''s", 'say \\"hi"\'!\'"\\"')
    """
    if quote == "'":
        return text.replace("'", r"'\''")
    if quote == '"':
        # In these marks nothing but others keeps bash from looking for a command of its history.
        return re.sub(r'(["\\$`])', r"\\\1", text).replace("!", "\"'!'\"")
    return _PLAIN.sub(r"\\\g<0>", text)


def quoted(text: str, quote: str) -> str:
    r"""A whole word, in quotation marks of that kind, or in some where it needs them.

    >>> quoted("user:1", ""), quoted("a b", ""), quoted("a b", '"'), quoted("it's", "'")
    ('user:1', "'a b'", '"a b"', "'it'\\''s'")
    """
    if quote == '"':
        return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    return f"'{written(text, chr(39))}'" if quote or _PLAIN.search(text) else text
