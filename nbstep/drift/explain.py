"""What drift is told with: what changed since an entry was kept, in short clauses for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nbstep.cache.records import Facts
from nbstep.cache.secrets.redaction import key_text
from nbstep.drift.inputs import SIGNER, Inputs, file_of
from nbstep.drift.seen import CALLS
from nbstep.drift.values import is_digest
from nbstep.durations import date_text, size_text
from nbstep.notes import words_text
from nbstep.policy import Cause
from nbstep.words import keys_text, plural

_DEFINITION: Final = re.compile(r"(?:@.*\n\s*)*(?:async\s+)?def\s+(\w+)")
_NAMED_KEYS: Final = 3
_WORDS_AT_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed since an entry was kept.

    Attributes:
        cause: Whether it is code or an input.
        what: What changed, the same for all steps that it concerns.
        text: How, for people: "tidy() was edited".
        then: Of an input, what it was, "`uid` was 1"; empty where it is equal, as 1 and 1.0 are.
    """

    cause: Cause
    what: str
    text: str
    then: str = ""


def changes_between(
    facts: Facts,
    code: Mapping[str, str],
    inputs: Inputs | None,
    at: float,
    function: str = "",
    where: Callable[[str], str] = lambda _: "",
) -> tuple[Change, ...]:
    """What changed between an entry and the step as it is now.

    Args:
        facts: What the entry knows.
        code: The code fingerprint of now, empty where it is unknown.
        inputs: The inputs of now, None where they are unknown.
        at: Now, in seconds since the epoch.
        function: The name of the function that is the thunk now, empty where it is a lambda or something else.
        where: Gives the file that a function or class stands in; empty where that is the notebook.
    """
    edits = code_changes(facts.code, code, function if function == function_in(facts.source) else "", where)
    changed = [] if inputs is None else input_changes(facts.inputs, inputs, at)
    return (*(Change("code", text, text) for text in edits), *changed) if edits or changed else ()


def old_values_texts(
    causes: Sequence[tuple[Change, Sequence[str]]],
    in_notebook: bool,
    folder: str | None = "",
    line: str = "%%workflow",
) -> list[str]:
    r"""The lines for entries used in spite of changes, one for all changes of the same entries; what to do ends it, or stands last.

    Args:
        causes: Each change, with the keys of the entries.
        in_notebook: Commands are spelled `%nbstep …`, else `nbstep …`.
        folder: Where commands find the cache, "" for the project's; None where they cannot.
        line: The first line of the cell.

    >>> edit, data = Change("code", "", "tidy() was edited"), Change("inputs", "", "`raw` changed")
    >>> print(*old_values_texts([(edit, ["a", "b"])], in_notebook=True))
    2 old values (a, b): tidy() was edited. See: %nbstep show a · Re-run: %%workflow --rerun-drifted · Keep: %nbstep accept a b
    >>> print(*old_values_texts([(edit, ["a"]), (data, ["b"])], in_notebook=True), sep="\n")
    1 old value (a): tidy() was edited
    1 old value (b): `raw` changed
    See: %nbstep show a · Re-run: %%workflow --rerun-drifted · Keep: %nbstep accept a b
    """
    alike: dict[tuple[str, ...], list[str]] = {}  # an entry with two changes is one old value, not two
    for change, keys in causes:
        alike.setdefault(tuple(keys), []).append(change.text)
    told = [f"{plural(len(keys), 'old value')} ({_named(keys)}): {'; '.join(texts)}" for keys, texts in alike.items()]
    every = list(dict.fromkeys(key for _, keys in causes for key in keys))
    ways_out = _ways_out(every, in_notebook, folder, line)
    return [f"{told[0]}. {ways_out}"] if len(told) == 1 else [*told, ways_out]


def _named(keys: Sequence[str]) -> str:
    return keys_text([key_text(key) for key in keys])


def _ways_out(keys: Sequence[str], in_notebook: bool, folder: str | None, line: str) -> str:
    again, words = f"{line} --rerun-drifted" if in_notebook else 'on_drift="rerun"', words_for(keys)
    if folder is None:
        return f"Re-run: {again} · Keep: cache.accept({', '.join(map(repr, words))})"

    def command(verb: str, *names: str) -> str:
        return words_text(verb, names, in_notebook=in_notebook, folder=folder)

    if len(keys) == 1:
        again += f", or {command('rm', keys[0])}"
    return f"See: {command('show', keys[0])} · Re-run: {again} · Keep: {command('accept', *words)}"


def words_for(keys: Sequence[str]) -> list[str]:
    """The words of a command that name keys: some by name, many by the beginning they share, too many by `*`.

    >>> words_for(["clean", "label:1", "label:2", "label:3"]), words_for([*"abcdef"]), words_for([f"{n}" for n in range(99)])
    (['clean', 'label:*'], ['a', 'b', 'c', 'd', 'e', 'f'], ['*'])
    """
    if len(keys) <= _NAMED_KEYS:
        return list(keys)
    prefixes = Counter(key.rpartition(":")[0] for key in keys)
    words = dict.fromkeys(
        f"{prefix}:*" if prefix and prefixes[prefix] > 1 else key
        for key, prefix in ((key, key.rpartition(":")[0]) for key in keys)
    )
    special = any(char in word.removesuffix("*") for word in words for char in "*?[")
    found = list(keys) if special else list(words)
    return ["*"] if len(found) > _WORDS_AT_MOST else found  # which takes along what other workflows left old


def mixed_inputs_text(key: str, changes: Sequence[Change], shared: bool) -> str | None:
    """The line for a key that is asked with other inputs than it was kept with moments ago; None where none is another value.

    Args:
        key: The key.
        changes: What changed.
        shared: Another task, thread or kernel computed it while the step waited; else this run kept it before.

    >>> print(mixed_inputs_text("frames", [Change("inputs", "p", "`p` changed", "`p` was another value")], shared=False))
    frames: `p` was another value when it was kept, in this run: put what differs into the key
    """
    then = [change.then for change in changes if change.then]
    if not then:
        return None
    when = "in the call that computed it" if shared else "when it was kept, in this run"
    return f"{key_text(key)}: {' and '.join(then)} {when}: put what differs into the key"


def code_changes(
    kept: Mapping[str, str],
    now: Mapping[str, str],
    function: str = "",
    where: Callable[[str], str] = lambda _: "",
) -> list[str]:
    """What changed between two fingerprints, as short clauses for people; empty when nothing did or nothing can be said.

    Args:
        kept: The fingerprint of an entry.
        now: That of the step that asks.
        function: The name of the function that was and is the thunk, empty where there is none.
        where: Gives the file that a function or class stands in; empty where that is the notebook.

    >>> kept, now = {"": "3.11:a", "tidy": "3.11:b"}, {"": "3.11:a", "tidy": "3.11:c"}
    >>> code_changes(kept, now), code_changes(kept, now, where=lambda name: "etl.py")
    (['tidy() was edited'], ['tidy() was edited in etl.py'])
    """
    if kept == now:
        return []
    if not kept or not now or kept.get("", "").partition(":")[0] != now.get("", "").partition(":")[0]:
        return []
    same, called = one_step(kept.get("", ""), now.get("", ""))
    changes = [] if same else [f"{function}() was edited" if function else "the step was edited"]
    for name in sorted(kept.keys() & now.keys()):
        if name and kept[name] != now[name]:
            file = where(name)
            changes.append(f"{part_text(name)} was edited{f' in {file}' if file else ''}")
    if not changes:
        gone = [name for name in sorted(kept.keys() - now.keys()) if kept[name] != called]
        changes += [
            f"{part_text(name)} is used now" for name in sorted(now.keys() - kept.keys()) if now[name] != called
        ]
        changes += [f"{part_text(name)} is no longer used" for name in gone]
    return changes


def part_text(name: str) -> str:
    """What a part of the code is called.

    >>> part_text("tidy"), part_text("OPS['add']")
    ('tidy()', "OPS['add']")
    """
    return name if name.endswith("]") else f"{name}()"


def function_in(source: str | None) -> str:
    """The name of the function whose text an entry has kept; empty for a lambda.

    >>> function_in("def load(n): return n"), function_in("step(lambda: load(1), key='k')")
    ('load', '')
    """
    found = _DEFINITION.match(source or "")
    return found[1] if found else ""


def one_step(kept: str, now: str) -> tuple[bool, str]:
    """Whether two thunks are one step, and the digest of the function that one of them is and the other one only calls."""
    (own, _, calls), (own_now, _, calls_now) = kept.partition(CALLS), now.partition(CALLS)
    if own == own_now or bool(calls) == bool(calls_now):
        return own == own_now, ""
    called = calls or calls_now
    return called in (own, own_now), called


def input_changes(kept: Mapping[str, str], now: Inputs, at: float) -> list[Change]:
    """What changed between the inputs of an entry and those of now; what only one of them knows does not count.

    Args:
        kept: The texts of an entry's inputs.
        now: The inputs of the step that asks.
        at: Now, in seconds since the epoch.

    >>> input_changes({"uid": "1"}, Inputs({"uid": "2"}), 0.0)[0].text
    '`uid` was 1, is now 2: put it in the key'
    """
    texts, found = now.texts, list[Change]()
    one_key = kept.get(SIGNER) == texts.get(SIGNER)
    for name, then in kept.items():
        text = texts.get(name, then)
        if text == then or name == SIGNER:
            continue
        if name.startswith("@"):
            if one_key and name in now.paths:
                path = now.paths[name]
                found.append(Change("inputs", name, _file_text(path, then, text, at), f"{path} was another file"))
        elif not is_digest(then) and not is_digest(text):
            was = f"`{name}` was {then}"
            found.append(
                Change(
                    "inputs", name, f"{was}, is now {text}: put it in the key", "" if _are_equal(then, text) else was
                )
            )
        elif one_key or is_digest(then) != is_digest(text):
            todo = "" if name in now.tables else ": put it in the key"
            found.append(Change("inputs", name, f"`{name}` changed{todo}", f"`{name}` was another value"))
    return found


def _are_equal(then: str, now: str) -> bool:
    try:
        return float(then) == float(now)
    except ValueError:
        return False


def _file_text(path: str, then: str, now: str, at: float) -> str:
    """How a file changed: "data/sales.csv: 12 MB on 2 Nov, 14 MB today"."""
    text = file_changes_text(then, now, at)
    return f"{path} {text}" if text.startswith("is ") else f"{path}: {text}"


def file_changes_text(then: str, now: str, at: float) -> str:
    """How a file changed, by what its two states are known by: "12 MB on 2 Nov, 14 MB today"."""
    before, after = file_of(then), file_of(now)
    if before is None or after is None:
        return f"is {'gone' if after is None else 'there'} now"
    (size, mtime), (size_now, mtime_now) = before, after
    sizes = size_text(size), size_text(size_now)
    if size != size_now and sizes[0] == sizes[1]:
        sizes = f"{size:,} B", f"{size_now:,} B"
    days = _day_text(mtime, at), _day_text(mtime_now, at)
    if sizes[0] != sizes[1] and days[0] == days[1]:
        return f"{sizes[0]} before, {sizes[1]} now"
    if sizes[0] == sizes[1] and days[0] == days[1]:
        return f"{sizes[0]} as before, written anew {days[0]}"
    return f"{sizes[0]} {days[0]}, {sizes[1]} {days[1]}"


def _day_text(moment: float, at: float) -> str:
    text = date_text(moment, at)
    return "today" if ":" in text else f"on {text}"
