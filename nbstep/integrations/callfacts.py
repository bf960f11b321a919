"""What an entry says of a call of a `joblib.Memory`, and what joblib wants to know of it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nbstep.cache.records import Facts
from nbstep.cache.secrets.redaction import REDACTED, redact_text
from nbstep.cache.secrets.suspicion import is_secret_name
from nbstep.events import Place
from nbstep.integrations.joblib import Signature, in_order, signature_in

WORKFLOW: Final = "joblib.Memory"
_FIRST_LINE: Final = "# first line:"  # joblib writes it before the code
_CHARS_AT_MOST: Final = 500  # of one argument's text
_ALL_CHARS_AT_MOST: Final = 4000


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a function as joblib last compared it.

    Attributes:
        text: Its source, or what joblib takes in place of it.
        digest: Of the text.
        signature: As far as the text tells it.
    """

    text: str
    digest: str
    signature: Signature


def code_of(written: str) -> Code:
    """What joblib wrote, without the line that says where it stood."""
    text = written.partition("\n")[2] if written.startswith(_FIRST_LINE) else written
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Code(text, f"joblib:{digest}", signature_in(text))


def facts_of(
    metadata: Mapping[str, Any], code: Code | None, notebook: str | None, redact: Callable[[str], str]
) -> Facts:
    """What an entry says of its call.

    Args:
        metadata: joblib's.
        code: The function's.
        notebook: Where it was called.
        redact: Takes secrets out of a text.
    """
    arguments: Mapping[str, str] = metadata.get("input_args") or {}
    order = in_order((code is not None and code.signature.parameters) or (), arguments)
    return Facts(
        took_s=float(metadata.get("duration") or 0.0),
        awaitable=code is not None and code.signature.awaitable,
        workflow=WORKFLOW,
        place=Place(notebook=notebook),
        code={} if code is None else {"": code.digest},
        source=None if code is None else code.text,
        inputs=_shown_arguments({name: arguments[name] for name in order}, redact),
    )


def made_by_other_code(facts: Facts, code: Code | None) -> bool:
    """Whether a result may be that of other code than a function has now, as far as that is known."""
    return code is not None and facts.code.get("") != code.digest


def metadata_of(facts: Facts, created: float) -> dict[str, Any]:
    """What joblib gives a `cache_validation_callback`."""
    return {"duration": facts.took_s, "input_args": dict(facts.inputs), "time": created}


def _shown_arguments(arguments: Mapping[str, str], redact: Callable[[str], str]) -> dict[str, str]:
    """Arguments by name, each as its `repr`, without secrets and cut where they are long: a header holds them."""
    found: dict[str, str] = {}
    left = _ALL_CHARS_AT_MOST
    for name, text in arguments.items():
        most = min(_CHARS_AT_MOST, left)
        shown = REDACTED if is_secret_name(name) else _without_secrets(name, text[: 2 * _CHARS_AT_MOST], redact)
        found[name] = shown if len(shown) <= most else f"{shown[: max(0, most - 1)]}…"
        left -= len(found[name])
    return found


def _without_secrets(name: str, text: str, redact: Callable[[str], str]) -> str:
    return redact(redact_text(f"{name}={text}").partition("=")[2])
