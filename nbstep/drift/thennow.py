"""The source and the inputs of a step, then and now: when its entry was kept, and when a look-up found it changed. Pure."""

from __future__ import annotations

import difflib
from typing import Final, NamedTuple

from nbstep.cache.drifted import Drifted
from nbstep.cache.records import Facts
from nbstep.drift.explain import file_changes_text, function_in, one_step
from nbstep.drift.inputs import SIGNER
from nbstep.drift.seen import CALLS
from nbstep.drift.values import is_digest

_DIGEST: Final = "a digest is kept (of an object: of its type), not the value"
_CONTEXT_LINES: Final = 2
_DIFF_LINES: Final = 60
_NO_TEXT: Final = "Its source is not known: it is long, or Python kept no text of it."
_SAME_TEXT: Final = "Its text is the same: a default or an attribute has another value."
NOT_HERE: Final = "Its source of now is not known here: run its cell once, then look in that notebook."


class Input(NamedTuple):
    """One input: its name, and what it was and is, for people."""

    name: str
    text: str
    changed: bool = False


class Difference(NamedTuple):
    """What an edit changed: the lines of a unified diff, or one line that says why there are none."""

    title: str
    text: str
    is_diff: bool = True


def inputs_then_and_now(facts: Facts, drifted: Drifted | None, at: float) -> tuple[Input, ...]:
    """The inputs that an entry knows, those that changed first; `at` is now, in seconds since the epoch.

    >>> for one in inputs_then_and_now(Facts(0.0, inputs={"": "k", "raw": "#0", "uid": "1"}), None, 0.0):
    ...     print(f"{one.name}: {one.text}")
    uid: 1
    raw: a digest is kept (of an object: of its type), not the value
    """
    changes = {} if drifted is None else drifted.inputs
    found: list[Input] = []
    for name, then in facts.inputs.items():
        now = changes.get(name)
        if name == SIGNER or (name.startswith("@") and now is None):
            continue
        if now is None:
            text = then if not is_digest(then) else "as then" if drifted is not None else _DIGEST
            found.append(Input(name, text))
        elif name.startswith("@"):
            path = {} if drifted is None else drifted.paths
            found.append(Input(path.get(name, "a file"), file_changes_text(then, now, at), changed=True))
        elif is_digest(then) or is_digest(now):
            found.append(Input(name, "another value now", changed=True))
        else:
            found.append(Input(name, f"{then} then, {now} now", changed=True))
    return tuple(sorted(found, key=lambda one: (not one.changed, one.text == _DIGEST)))


def differences(facts: Facts, drifted: Drifted | None) -> tuple[Difference, ...]:
    """How the source of what was edited differs, a part each: the step first, then the functions by name."""
    if drifted is None or not drifted.code:
        return ()
    today = drifted.today(facts)
    version, version_now = (code.get("", "").partition(":")[0] for code in (facts.code, today.code))
    edited = sorted(name for name in drifted.code if name in facts.code and drifted.code[name] is not None)
    found: list[Difference] = []
    for name in edited:
        then, now = _texts(facts, today, name)
        if not name and one_step(facts.code[""], today.code[""])[0]:
            continue
        title = f"{name}()" if name else step_title(facts)
        if drifted.sources is None:
            found.append(Difference(title, NOT_HERE, is_diff=False))
        elif then is None or now is None:
            found.append(Difference(title, _NO_TEXT, is_diff=False))
        elif then != now:
            found.append(Difference(title, _diff(then, now)))
        elif version == version_now:
            found.append(Difference(title, _SAME_TEXT, is_diff=False))
    return tuple(found)


def step_title(facts: Facts) -> str:
    """What the step's own code is called: "load()", "the step" for a lambda."""
    name = function_in(facts.source)
    return f"{name}()" if name else "the step"


def _texts(facts: Facts, today: Facts, name: str) -> tuple[str | None, str | None]:
    if name:
        return facts.sources.get(name), today.sources.get(name)
    plain = CALLS not in facts.code[""], CALLS not in today.code[""]
    if plain[0] != plain[1]:  # `lambda: f(x)` became `f`, or the other way round: it is `f` that was edited
        return _called_text(facts), _called_text(today)
    return facts.source, today.source


def _called_text(facts: Facts) -> str | None:
    """The source of the thunk's own function, or of the one that it only calls."""
    _, calls, called = facts.code[""].partition(CALLS)
    if not calls:
        return facts.source
    return next((facts.sources.get(name) for name, digest in facts.code.items() if name and digest == called), None)


def _diff(then: str, now: str) -> str:
    lines = [*difflib.unified_diff(then.splitlines(), now.splitlines(), lineterm="", n=_CONTEXT_LINES)][2:]
    lines = ["…" if line.startswith("@@") else line.rstrip() for line in lines[1:]]
    if len(lines) > _DIFF_LINES:
        lines = [*lines[:_DIFF_LINES], f"… and {len(lines) - _DIFF_LINES} more lines"]
    return "\n".join(lines)
