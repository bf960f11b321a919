"""What a worker process does for one item: calls the function, and keeps what it gave where it reaches the step's cache."""

from __future__ import annotations

import functools
import pickle
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbstep.cache.cache import Cache
from nbstep.cache.reach import NotReached, reached
from nbstep.cache.records import Facts, Hit, NotKept, Receipt
from nbstep.cache.secrets.redaction import key_text, redact_text
from nbstep.drift.wanted import Wanted
from nbstep.errors import WorkerError
from nbstep.foreign import interrupts, is_a
from nbstep.notes import error_line
from nbstep.result import Err, Ok
from nbstep.steps.attempts import attempt_thunk
from nbstep.steps.awaitable import discard
from nbstep.steps.inside import Inside, around_of
from nbstep.steps.parcels import loaded, packed_end, unpacked_item
from nbstep.steps.ranwith import RanWith, Where, Witness
from nbstep.steps.take import needs_plain_function
from nbstep.stores.base import run_now


class Order(NamedTuple):
    """What a worker is to keep a value with, or to say what it was made with.

    Attributes:
        keep: The value is to be kept here, if that can be; else sent.
        alike: What is the same for most items, a pickled `Alike`.
        key: The user's key.
        inputs: The inputs before the work, as the kernel has them.
        uses: The keys that went into them.
        seen: The mark of what the kernel found under the key; None where it found nothing it could read.
        asked: When the step was asked, in seconds since the epoch; what was made alike since then need not be computed.
    """

    keep: bool
    alike: bytes
    key: str
    inputs: Mapping[str, str]
    uses: tuple[str, ...]
    seen: bytes | None
    asked: float


@dataclass(frozen=True, slots=True)
class Alike:
    """What is the same for most items.

    Attributes:
        facts: What the entry says of its step.
        wanted: Which inputs count.
        batch: The batch that it belongs to.
        kernel: Where the kernel is.
    """

    facts: Facts
    wanted: Wanted
    batch: str
    kernel: Where


def work_of(function: bytes, item: Any, retries: int, order: bytes | None, around: bytes) -> bytes:
    """Calls the function with one item; gives how that ended as arguments of `Ended`, packed. `around` as `packed_around` gave it.

    A value that this process could keep stays out of it. Errors always are in it: the kernel decides whether they are kept.
    A value that another worker has kept meanwhile is not computed again: a cluster gives the last tasks of a worker that dies to
    others.
    """
    asked: _Asked | None = None
    inside: Inside | None = None
    told: dict[str, Any]
    began = time.perf_counter()
    try:
        thunk, item = _unpacked(function), unpacked_item(item)
        asked = _asked(order, around, thunk, item)
        kept = None if asked is None or asked.keeping is None else asked.keeping.kept_meanwhile(asked.witness)
        if kept is not None:
            return packed_end(kept)
        inside = Inside(around, None if asked is None else asked.key)
        work = inside.context()
        began = time.perf_counter()
        given = work.run(run_now, attempt_thunk(thunk, (item,), retries, None, awaiting=False, prepared=None))
        took_s = time.perf_counter() - began
        if given.later is not None:
            discard(given.later)
            raise needs_plain_function()
        told = {
            "value": given.value,
            "error": given.stopped,
            "sent_because": "" if asked is None else asked.sent_because,
        }
    except WorkerError as error:
        took_s, told = 0.0, {"error": error}
    except BaseException as error:  # noqa: BLE001 - raised where the step was asked: here it would end a worker with all it has
        took_s = time.perf_counter() - began
        at = traceback.extract_tb(error.__traceback__)[-1]
        error.add_note(f"In a worker process, at {at.filename}:{at.lineno} in {at.name}.")
        told = {"error": error}
    ran_with = RanWith() if asked is None else asked.witness.tells(asked.facts)
    if inside is not None:
        uses, is_unkept = inside.end()
        ran_with = replace(ran_with, uses=uses, is_unkept=is_unkept)
    if asked is not None and asked.keeping is not None and told["error"] is None and not is_a(told["value"], Err):
        told |= asked.keeping.keep(told["value"], took_s, ran_with)
    if ran_with != RanWith():
        told["ran_with"] = ran_with
    told["took_s"] = took_s
    return packed_end(told)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the kernel would say of an item's step, who sees what it is here, and how its value is kept, if it can be."""

    key: str
    facts: Facts
    witness: Witness
    keeping: _Keeping | None = None
    sent_because: str = ""


def _asked(order: bytes | None, around: bytes, thunk: Any, item: Any) -> _Asked | None:
    if order is None:
        return None
    asked = Order(*pickle.loads(order))
    alike = _alike(asked.alike)
    facts = replace(alike.facts, inputs=asked.inputs, uses=asked.uses)
    witness = Witness(thunk, item, alike.wanted, alike.kernel)
    envelope = around_of(around).envelope if asked.keep and around else None
    if envelope is None:
        return _Asked(asked.key, facts, witness)
    try:
        return _Asked(
            asked.key,
            facts,
            witness,
            _Keeping(reached(envelope), asked.key, facts, alike.batch, asked.seen, asked.asked),
        )
    except NotReached as why:
        return _Asked(asked.key, facts, witness, None, str(why))
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - then the value is sent: a cache that fails never costs the user work (C3)
        return _Asked(
            asked.key, facts, witness, None, f"a worker could not open the cache ({error_line(error, redact_text)})"
        )


@dataclass(frozen=True, slots=True)
class _Keeping:
    """A value that is to be kept here: where, and what the kernel would say of its step."""

    cache: Cache
    key: str
    facts: Facts
    batch: str
    seen: bytes | None
    asked: float

    def kept_meanwhile(self, witness: Witness) -> dict[str, Any] | None:
        """A receipt of what was kept since the step was asked, as another worker told to do this would; None for nothing.

        Nothing that was made otherwise than here, as somebody may who began before an edit. What the function itself changes is
        not among the inputs of an entry.
        """
        if run_now(self.cache.is_gone(self.key)):
            return None
        found = run_now(self.cache.look_up(self.key))
        if not isinstance(found, Hit) or found.meta.outcome != "ok" or found.mark == self.seen:
            return None
        ran_with = witness.tells(self.facts)
        kept, here = found.meta.facts, ran_with.told(self.facts)
        is_alike = kept.code == here.code and kept.exact == here.exact
        if not is_alike or any(here.inputs.get(name) != text for name, text in kept.inputs.items()):
            return None
        if not found.meta.is_kept_since(self.asked):
            return None
        others = tuple(name for name in ran_with.others if name in kept.inputs)  # the rest is state, which items change
        told = replace(ran_with, others=others)
        return {"value": None, "receipt": Receipt(found.mark), "took_s": kept.took_s, "ran_with": told}

    def keep(self, value: Any, took_s: float, ran_with: RanWith) -> dict[str, Any]:
        """Keeps it: a receipt instead of the value; or else why the value is sent."""
        facts = ran_with.told(replace(self.facts, took_s=took_s))
        result: Ok[Any] = value if is_a(value, Ok) else Ok(value)
        kept = run_now(self.cache.keep(self.key, result, facts, batch=self.batch))
        if isinstance(kept, NotKept):
            return {
                "sent_because": f"a worker on {socket.gethostname()} could not keep {key_text(self.key)} ({kept.why})"
            }
        return {"value": None, "receipt": Receipt(kept.mark, kept.evicted, kept.beside)}


@functools.lru_cache(maxsize=16)
def _alike(packed: bytes) -> Alike:
    return pickle.loads(packed)


@functools.lru_cache(maxsize=4)
def _unpacked(function: bytes) -> Any:
    return loaded(function, "the function")
