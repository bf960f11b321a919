"""What a worker process does for one item: calls the function, and keeps what it gave where it reaches the step's cache."""

from __future__ import annotations

import functools
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbstep.cache.cache import Cache
from nbstep.cache.reach import NotReached, reached
from nbstep.cache.records import Facts, NotKept, Receipt
from nbstep.cache.secrets.redaction import key_text, redact_text
from nbstep.cache.trust import signing_key
from nbstep.drift.handed import look_behind_call
from nbstep.drift.inputs import SIGNER, Inputs, read_inputs, settled
from nbstep.drift.wanted import Wanted
from nbstep.errors import WorkerError
from nbstep.foreign import interrupts, is_a
from nbstep.notes import error_line
from nbstep.result import Err, Ok
from nbstep.steps.attempts import attempt_thunk
from nbstep.steps.awaitable import discard
from nbstep.steps.parcels import loaded, packed_end, unpacked_item
from nbstep.steps.take import needs_plain_function
from nbstep.stores.base import run_now


class Order(NamedTuple):
    """What a worker is to keep a value with.

    Attributes:
        envelope: Where the cache is, for `reached`.
        alike: What is the same for most items, a pickled `Alike`.
        key: The user's key.
        inputs: The inputs before the work, as the kernel has them.
        uses: The keys that went into them.
    """

    envelope: bytes
    alike: bytes
    key: str
    inputs: Mapping[str, str]
    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """What is the same for most items: what the entry says of its step, which inputs count, to which batch it belongs."""

    facts: Facts
    wanted: Wanted
    batch: str


def work_of(function: bytes, item: Any, retries: int, order: bytes | None) -> bytes:
    """Calls the function with one item; gives how that ended as arguments of `Ended`, packed.

    A value that this process could keep stays out of it. Errors always are in it: the kernel decides whether they are kept.
    """
    keeping: _Keeping | None = None
    told: dict[str, Any]
    began = time.perf_counter()
    try:
        thunk, item = _unpacked(function), unpacked_item(item)
        keeping, because = _keeping(order, thunk, item)
        began = time.perf_counter()
        given = run_now(attempt_thunk(thunk, (item,), retries, None, awaiting=False, prepared=None))
        took_s = time.perf_counter() - began
        if given.later is not None:
            discard(given.later)
            raise needs_plain_function()
        told = {"value": given.value, "error": given.stopped, "sent_because": because}
    except WorkerError as error:
        took_s, told = 0.0, {"error": error}
    except Exception as error:  # noqa: BLE001 - it is raised where the step was asked
        took_s = time.perf_counter() - began
        at = traceback.extract_tb(error.__traceback__)[-1]
        error.add_note(f"In a worker process, at {at.filename}:{at.lineno} in {at.name}.")
        told = {"error": error}
    if keeping is not None and told["error"] is None and not is_a(told["value"], Err):
        told |= keeping.keep(told["value"], took_s)
    told["took_s"] = took_s
    return packed_end(told)


@dataclass(frozen=True, slots=True)
class _Keeping:
    """A value that is to be kept here: where, with what it says of its step, and its inputs as this process has them."""

    cache: Cache
    key: str
    facts: Facts
    batch: str
    before: Inputs
    inputs: Callable[[], Inputs]

    def keep(self, value: Any, took_s: float) -> dict[str, Any]:
        """Keeps it: a receipt instead of the value; or else why the value is sent. What the work changed is state (D2)."""
        same = settled(self.before, self.inputs()).keys() | (self.facts.inputs.keys() - self.before.texts.keys())
        inputs = {name: text for name, text in self.facts.inputs.items() if name in same}
        facts = replace(self.facts, took_s=took_s, inputs=inputs if inputs.keys() - {SIGNER} else {})
        result: Ok[Any] = value if is_a(value, Ok) else Ok(value)
        kept = run_now(self.cache.keep(self.key, result, facts, batch=self.batch))
        if isinstance(kept, NotKept):
            return {
                "sent_because": f"a worker on {socket.gethostname()} could not keep {key_text(self.key)} ({kept.why})"
            }
        return {"value": None, "receipt": Receipt(kept.mark, kept.evicted, kept.beside)}


def _keeping(order: bytes | None, thunk: Any, item: Any) -> tuple[_Keeping | None, str]:
    """What is to be kept; or nothing, and why, where the user could expect that it is."""
    if order is None:
        return None, ""
    try:
        asked = Order(*pickle.loads(order))
        cache, alike = reached(asked.envelope), _alike(asked.alike)
        inputs = functools.partial(_inputs, thunk, item, alike.wanted)
        facts = replace(alike.facts, inputs=asked.inputs, uses=asked.uses)
        return _Keeping(cache, asked.key, facts, alike.batch, inputs(), inputs), ""
    except NotReached as why:
        return None, str(why)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - then the value is sent: a cache that fails never costs the user work (C3)
        return None, f"a worker could not read what to keep ({error_line(error, redact_text)})"


def _inputs(thunk: Any, item: Any, wanted: Wanted) -> Inputs:
    try:
        return read_inputs(thunk, (item,), look_behind_call(thunk, (item,)), signing_key(), wanted)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - odd code must not cost the value (C3)
        return Inputs()


@functools.lru_cache(maxsize=16)
def _alike(packed: bytes) -> Alike:
    return pickle.loads(packed)


@functools.lru_cache(maxsize=4)
def _unpacked(function: bytes) -> Any:
    return loaded(function, "the function")
