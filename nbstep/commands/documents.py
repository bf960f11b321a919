"""What `--json` gives: the fields of each verb's document, the same whether it found something or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from nbstep.cache.secrets.redaction import redact_text
from nbstep.commands.line import CommandOutcome


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a document: what it holds where there is nothing to tell, and what it means."""

    name: str
    empty: Any
    meaning: str


def _fields(**fields: tuple[Any, str]) -> tuple[Field, ...]:
    return tuple(Field(name, *field) for name, field in fields.items())


# Verbs that are not named here give a list of records, `show` one record.
DOCUMENTS: Final[Mapping[str, tuple[Field, ...]]] = {
    "rm": _fields(keys=([], "deleted"), later=([], "made from them, still kept")),
    "clear": _fields(count=(0, "entries deleted")),
    "undo": _fields(keys=([], "restored"), damaged=([], "left in the trash"), nameless=(0, "likewise, no key told")),
    "retry": _fields(keys=([], "deleted")),
    "accept": _fields(keys=([], "accepted"), refused=({}, "why, by key")),
    "trust": _fields(
        keys=([], "accepted or signed anew"), refused=({}, "why, by key"), offered=([], "accepted with -y")
    ),
    "verify": _fields(
        checked=(0, "entries read"),
        good=(0, "of them"),
        size_bytes=(0, "read"),
        bad=([], "key, address, verdict, why, size_bytes, beside_own"),
    ),
    "gc": _fields(
        dry_run=(False, "nothing was removed"),
        unfinished=({}, "count, size_bytes"),
        trashed=({}, "likewise"),
        logs=({}, "likewise"),
        unused=({}, "likewise"),
        unused_keys=([], "as far as known"),
    ),
    "doctor": _fields(facts=({}, "lines by name: cache, disk, key, entries, …")),
    "export": _fields(
        files=([], "written"), left_out=([], "key and why"), needs=([], "what a file cannot be opened without")
    ),
    "import-joblib": _fields(
        results=([], "of a folder: function, arguments, size_bytes, took_s, kept_at, key, note"),
        keys=([], "taken over"),
        kept_already=([], "left as they are"),
        left_out=({}, "why, by key"),
    ),
    "autoload": _fields(on=(False, "now"), file=("", "that IPython runs at its start")),
    "completion": (),
    "help": _fields(verbs=([], "name, arguments, help, options")),
}


def as_document(verb: str, outcome: CommandOutcome) -> str:
    r"""The outcome as JSON, all of it ASCII: a list of records where the verb gives one, else an object with `says`.

    >>> print(as_document("retry", CommandOutcome("Deleted 1 kept error", record={"keys": ["user:\ud800"]})))
    {
     "says": "Deleted 1 kept error",
     "keys": [
      "user:\ud800"
     ]
    }
    """
    record = outcome.record
    if record is None or (isinstance(record, Mapping) and verb in DOCUMENTS):
        fields = {field.name: field.empty for field in DOCUMENTS.get(verb, ())}
        record = {"says": outcome.text, **fields, **(record or {})}
    return json.dumps(_redacted(record), indent=1)


def _redacted(record: Any) -> Any:
    """The same without secrets in its texts and names: a notebook's output is saved."""
    if isinstance(record, str):
        return redact_text(record)
    if isinstance(record, Mapping):
        return {_redacted(name): _redacted(value) for name, value in cast("Mapping[Any, Any]", record).items()}
    if isinstance(record, list | tuple):
        return [_redacted(value) for value in cast("Sequence[Any]", record)]
    return record


def fields_text(verb: str) -> str:
    """What `help VERB` says of a document; "" where the verb's own help does."""
    if verb not in DOCUMENTS:
        return ""
    fields = "".join(f", {field.name} ({field.meaning})" for field in DOCUMENTS[verb])
    return f"says{fields}"
