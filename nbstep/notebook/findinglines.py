"""The findings of a run as lines under its list, those of one cause in one line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nbstep.events import Finding
from nbstep.words import keys_text, plural, shown

_MOST: Final = 12  # lines
_LONGEST_TEXT: Final = 500  # characters, with the commands at the end


@dataclass(slots=True)
class _Cause:
    """What several findings say alike: `said` is their text, without the key where it begins with that."""

    said: str
    times: int = 0
    keys: dict[str, None] = field(default_factory=dict[str, None])

    def line(self) -> str:
        text = keys_text(list(self.keys)) + self.said
        if len(self.keys) > 1:
            text = text.replace(" was not kept", " were not kept", 1)
        cut = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
        return f"{cut} (×{self.times})" if self.times > max(1, len(self.keys)) else cut


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """One line a cause, with the keys it concerns or how often it came; many causes are counted.

    >>> texts = ["a was not kept: no room", "b was not kept: no room", "line 3: no f", "line 3: no f"]
    >>> finding_lines([Finding("run", text[0], "k", text) for text in texts])
    ['a, b were not kept: no room', 'line 3: no f (×2)']
    """
    causes: dict[tuple[str, str], _Cause] = {}
    for finding in findings:
        text, key = shown(finding.text), shown(finding.key or "")
        own = bool(key) and text.startswith((f"{key}: ", f"{key} was "))
        said = text.removeprefix(key) if own else text
        cause = causes.setdefault((finding.kind, said), _Cause(said))
        cause.times += 1
        if own:
            cause.keys[key] = None
    lines = [cause.line() for cause in causes.values()]
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], f"and {plural(len(lines) - _MOST, 'finding')} more"]
    return lines
