"""Call sites: each is read once for each code object, however often its keys are asked."""

from __future__ import annotations

import ast
import hashlib
import re
import types
from dataclasses import dataclass, replace
from typing import Final

from nbstep.foreign import interrupts
from nbstep.keyfindings.changing import Kind, lookup_in
from nbstep.keyfindings.expression import Reader
from nbstep.keyfindings.source import call_text

_MAX_CODES: Final = 4096
_ADDRESS: Final = re.compile(r"<[^\n]{1,200}? at 0x[0-9a-fA-F]{4,}[^\n<>]{0,100}>")
_ADDRESS_DIGITS: Final = re.compile(r"0x[0-9a-fA-F]+")

_SET: Final = re.compile(r"\{'[^'{}]*'(?:, '[^'{}]*')+\}")
_SHORTENED: Final = re.compile(r"\[[^\]]* \.\.\. [^\]]*\]")
_WHY: Final[dict[Kind, str]] = {
    "clock": "so it is a new one in every run and nothing is found again; leave it out, or take the day: {date.today()}",
    "chance": "so it is a new one in every run and nothing is found again; make the key of what identifies the result",
    "address": "which is another number in every process; name what identifies the object, such as its id",
    "hash": 'which gives another number in every process; step.key("name", value=value) makes a digest that stays the same',
    "process": "which is another one in every process; leave it out",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One call of `step` in the user's text.

    Attributes:
        finding: What is wrong with its key's expression; None where nothing is known to be.
        silenced: A comment on it wants no findings.
        id: The same in every process as long as the text of the call is the same; None where it has none, or is silenced.
        call: The call as written; None where its text is not to be had.
        with_f: The key with the `f` that was forgotten; None where none was.
        line: Where it is called, counted from 1; None where that is not known.
    """

    finding: str | None = None
    silenced: bool = False
    id: str | None = None
    call: ast.Call | None = None
    with_f: str | None = None
    line: int | None = None


NOWHERE: Final = Site()


_sites: dict[int, tuple[types.CodeType, dict[int, Site]]] = {}


def site_of(frame: types.FrameType) -> Site:
    """The site of the call that a frame makes now."""
    code = frame.f_code
    known = _sites.get(id(code))
    if known is None or known[0] is not code:
        if len(_sites) >= _MAX_CODES:
            _sites.clear()
        known = _sites[id(code)] = code, {}
    site = known[1].get(frame.f_lasti)
    if site is None:
        try:
            site = _read(frame)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd names and sources must not cost the value (C3)
            site = NOWHERE
        known[1][frame.f_lasti] = site = replace(site, line=frame.f_lineno)
    return site


def _read(frame: types.FrameType) -> Site:
    text = call_text(frame.f_code, frame.f_lasti)
    key = None if text is None else next((word.value for word in text.call.keywords if word.arg == "key"), None)
    if text is None or key is None:
        return NOWHERE
    digest = site_id(frame.f_code.co_name, ast.unparse(text.call))
    own = frozenset[str]()
    in_map = isinstance(text.call.func, ast.Attribute | ast.Name) and _last_name(text.call.func) == "map"
    if isinstance(key, ast.Lambda):
        own, key, in_map = frozenset(arg.arg for arg in key.args.args), key.body, False
    reader = Reader(lookup_in(frame), text.filename, text.line, own)
    field = None if in_map else reader.literal_field(key)
    with_f = None if field is None else _with_f(key)
    if text.silenced:
        return Site(silenced=True, call=text.call, with_f=with_f)
    changing = reader.changing(key)
    finding = None
    if changing is not None:
        finding = f"the key holds {changing.text}, {_WHY[changing.kind]}"
    elif field is not None:
        finding = f"the key has {field} in it as it stands; for the value write f before the quotes: key={with_f}"
    return Site(finding, id=digest, call=text.call, with_f=with_f)


def site_id(code_name: str, call: str) -> str:
    """Tells a call from others by its text, unparsed, and by the name of the code that it stands in."""
    return hashlib.blake2b(f"{code_name}:{call}".encode(), digest_size=8).hexdigest()


def _with_f(key: ast.expr) -> str:
    written = f"f{ast.unparse(key)}" if isinstance(key, ast.Constant) else "f…"
    return written.replace("'", '"') if '"' not in written else written


def _last_name(node: ast.Attribute | ast.Name) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id


def text_finding(key: str) -> str | None:
    """What is wrong with a key's text, whatever its expression."""
    found = _ADDRESS.search(key)
    if found is not None:
        shape = _ADDRESS_DIGITS.sub("0x…", found[0])
        return (
            f"the key holds an object's address ({shape}), which is another one in every process; "
            "name what identifies it, such as its id"
        )
    if "\n" in key:
        return (
            "the key holds a line break, as the text of a frame or a long text does; step.key makes a short digest of "
            'such values: key=step.key("name", value=value)'
        )
    if _SET.search(key) is not None:
        return (
            "the key holds the text of a set, whose order is another one in every process; sort it first, or take "
            'key=step.key("name", value=value)'
        )
    if _SHORTENED.search(key) is not None:
        return (
            "the key holds the text of a long array, which leaves most values out: other arrays have the same; step.key makes a "
            'digest of all: key=step.key("name", value=value)'
        )
    return None


def may_have_finding(key: str) -> bool:
    """Whether `text_finding` may find something; told at each call."""
    return "\n" in key or " at 0x" in key or "{'" in key or " ... " in key
