"""Tab in a line `%nbstep …`: verbs, options and keys, as IPython and the front ends ask for them."""

from __future__ import annotations

import re
from typing import Any, Final

from IPython.core.completer import SimpleCompletion, context_matcher

from nbstep.notebook import late

_LINE: Final = re.compile(r"\s*(?:%\s*)?(?=nbstep\s)")


@context_matcher(identifier="nbstep")  # pyright: ignore[reportUntypedFunctionDecorator]
def complete_verbs(context: Any) -> dict[str, Any]:
    """A matcher of IPython's completer; of lines that are not ours it has nothing to say."""
    before: str = context.text_until_cursor
    if not (ours := _LINE.match(before)):
        return {"completions": [], "suppress": False}
    completion, lexing = late("nbstep.commands.completion"), late("nbstep.commands.lexing")
    line = lexing.read_line(before[ours.end() :])
    found = completion.complete(line.before[1:], line.current)
    closed = line.quote and context.line_with_cursor[len(before) :].startswith(line.quote)  # a front end did
    texts = [_spelled(text, line.quote, bool(closed)) for text in found.texts]
    return {
        "completions": [SimpleCompletion(text=text, type="nbstep") for text in texts],
        "matched_fragment": before[len(before) - line.typed :] if line.typed else "",
        "ordered": True,
        "suppress": bool(texts),
    }


def _spelled(text: str, quote: str, closed: bool) -> str:
    """A word of a magic's line, in quotation marks where it needs them; IPython fills in single braces."""
    word: str = late("nbstep.commands.lexing").quoted(text, quote).replace("{", "{{").replace("}", "}}")
    return word[:-1] if closed else word
