"""Steps whose work is done in worker processes: looked up here; kept by the worker where it reaches the cache, else here."""

from __future__ import annotations

import contextvars
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

from nbstep.cache.cache import Cache
from nbstep.cache.reach import NotReached, Reach
from nbstep.drift.parts import part_of
from nbstep.errors import WorkerError
from nbstep.foreign import interrupts
from nbstep.notes import error_line
from nbstep.result import Err, Ok
from nbstep.runs.state import Run
from nbstep.steps.calls import Call
from nbstep.steps.inline import Ended, Wait
from nbstep.steps.inside import packed_around
from nbstep.steps.keeping import Ran, facts_of
from nbstep.steps.parcels import packed_item, unpacked_end
from nbstep.steps.ranwith import OtherCode, RanWith, Where
from nbstep.steps.take import taking
from nbstep.steps.workerside import Alike, Order, work_of
from nbstep.tracebacks import of_the_user

_NAMED: Final = 3


class Handover:
    """What the steps of one map have in common, whose work workers do.

    Args:
        run: The run they belong to.
        function: What the workers call for each item.

    Raises:
        TypeError: The function cannot be sent to another process.
    """

    def __init__(self, run: Run, function: Any) -> None:
        self.function = _packed(function)
        self.context = contextvars.copy_context()
        self._run = run
        self._reach: Reach | None = None
        self._may_reach = run.cache is not None
        self._alike: tuple[Alike, bytes] | None = None
        self._around: tuple[bytes | None, bytes] | None = None
        self._fetched = 0

    def close(self) -> None:
        """Ends what workers may do with the cache."""
        self._may_reach = False
        if self._reach is not None:
            self._reach.close()

    def order(self, call: Call, *, keep: bool) -> bytes | None:
        """What a worker keeps the value of a step with, or says what it was made with; None where neither is wanted.

        With `keep` the worker keeps it, where it can.
        """
        if call.key is None or call.before is None:
            return None
        try:
            alike = self._packed_alike(call)
            inputs, uses = dict(call.before.texts), call.uses(())
            order = Order(keep and self._may_reach, alike, call.key, inputs, uses, call.seen, call.asked)
            return pickle.dumps(tuple(order))
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd facts must not cost the value (C3)
            return None

    def around(self) -> bytes:
        """What is around the work of its items, for the steps inside them."""
        try:
            envelope = self._envelope() if self._may_reach else None
            if self._around is None or self._around[0] is not envelope:
                self._around = envelope, packed_around(self._run, envelope)
            return self._around[1]
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as for the facts
            return b""

    def _envelope(self) -> bytes | None:
        try:
            if self._reach is None:
                self._reach = Reach(cast("Cache", self._run.cache))
            self._reach.renew()
            return self._reach.envelope
        except NotReached as why:
            self._may_reach = False
            if str(why):
                self._run.find("workers", None, f"results come back through this kernel: {why}", once=True)
            return None

    def tell_other(self, call: Call, other: RanWith) -> None:
        """Tells, once a run each, of code and of variables that workers have another way than this process."""
        if other.code is not None:
            self._run.find("workers-code", None, _other_code_text(call, other.code), once=True)
        if other.others:
            names = " and ".join(f"`{name}`" for name in other.others[:_NAMED])
            verb = "is" if len(other.others) == 1 else "are"
            self._run.find(
                "workers-inputs", None,
                f"{names} {verb} not the same in worker processes as here, and what they give is kept as made with theirs: "
                f"hand it to the function, or set it inside", once=True,
            )  # fmt: skip

        if other.is_unkept:
            self._run.find(
                "workers-inside", None,
                "steps inside items of a map in worker processes keep nothing, as they do not reach the cache: keep these results "
                "in a folder or a server, or map on threads", once=True,
            )  # fmt: skip

    def note(self, *, fetched: bool) -> None:
        """Notes whether what a worker kept was found here. Where mostly not, it keeps in another place than it seems to."""
        self._fetched += 1 if fetched else -1
        if self._fetched < 0:
            self.close()

    def _packed_alike(self, call: Call) -> bytes:
        facts = facts_of(call, Ran(0.0, awaitable=False, returned=False, used=()), call.options.policy.ttl_s, {})
        facts = replace(facts, code=dict(facts.code), sources=dict(facts.sources) if self._may_reach else {})
        alike = Alike(facts, call.options.inputs, self._run.id, Where.here())
        if self._alike is None or self._alike[0] != alike:
            self._alike = alike, pickle.dumps(alike)
        return self._alike[1]


class HandedStep:
    """A step of `step.map` that pauses where its function would be called.

    Attributes:
        result: What it gave, once it is done.
        wait_s: How many seconds it has to wait before it can go on; None where it has not.
    """

    def __init__(self, call: Call, handover: Handover) -> None:
        self.result: Ok[Any] | Err[Any] | None = None
        self.wait_s: float | None = None
        self._call = call
        self._handover = handover
        self._is_lost = False
        self._context = handover.context.copy()
        self._coroutine = taking(call, awaiting=False)
        self._item: Any = None
        self.go_on()

    def go_on(self) -> None:
        """Looks again, where it had to wait."""
        self._advance(None)
        if self.result is None and self.wait_s is None:
            self._pack()

    def task(self) -> tuple[Callable[..., bytes], tuple[Any, ...]]:
        """What a worker calls, and its arguments."""
        call, around = self._call, self._handover.around()
        order = self._handover.order(call, keep=not self._is_lost)
        return work_of, (self._handover.function, self._item, call.options.retries, order, around)

    def end(self, outcome: bytes | BaseException) -> Ok[Any] | Err[Any] | None:
        """Takes or keeps what the worker gave, as `work_of` packed it; None where that is lost, and `task` is to be done again.

        An error says why no worker could do it.
        """
        ended = unpacked_end(outcome) if isinstance(outcome, bytes) else Ended(error=_given_up(outcome))
        if ended.ran_with is not None:
            self._handover.tell_other(self._call, ended.ran_with)
        self._advance(ended)
        if ended.receipt is not None:
            self._is_lost = self.result is None
            self._handover.note(fetched=not self._is_lost)
        return self.result

    def give_up(self) -> None:
        """Ends it as interrupted; nothing is kept."""
        error = KeyboardInterrupt()
        try:
            self._advance(Ended(error=error))
        except KeyboardInterrupt:
            return
        finally:
            error.__traceback__ = None  # the run remembers it, and so would hold the whole map by its frames

    def _pack(self) -> None:
        try:
            self._item = packed_item(*self._call.args)
        except WorkerError as error:
            self._advance(Ended(error=error))

    def _advance(self, told: Ended | None) -> None:
        __tracebackhide__ = True
        try:
            paused = self._context.run(self._coroutine.send, told)
            while type(paused) is Wait and paused.seconds <= 0:
                paused = self._context.run(self._coroutine.send, None)
            self.wait_s = paused.seconds if type(paused) is Wait else None
        except StopIteration as ended:
            self.result, self.wait_s = ended.value, None


def _given_up(error: BaseException) -> WorkerError:
    told = WorkerError(f"no worker process could do it ({error_line(error)})")
    told.__cause__ = error
    return told


_RESTARTS: Final = {
    "joblib._parallel_backends": "from joblib.externals.loky import get_reusable_executor; get_reusable_executor().shutdown()",
    "joblib._dask": "client.restart()",
}


def _other_code_text(call: Call, other: OtherCode) -> str:
    from joblib.parallel import get_active_backend

    backend: Any = get_active_backend()[0]
    how = _RESTARTS.get(type(backend).__module__)
    named = [name for name in other.parts if name]
    if not named or other.is_own:
        part = part_of(call.work())
        named.insert(
            0, part.__qualname__ if part.__module__ == "__main__" else f"{part.__module__}.{part.__qualname__}"
        )
    names = " and ".join(f"`{name}`" for name in named[:3])
    return (
        f"worker processes ran other code of {names} than this notebook has, and what they give is kept as made by theirs: "
        f"restart them{f' ({how})' if how else ''}"
    )


def _packed(function: Any) -> bytes:
    """The function as workers take it."""
    import cloudpickle

    try:
        return cloudpickle.dumps(function)
    except Exception as error:  # noqa: BLE001 - of whatever kind
        raise TypeError(
            f"step.map cannot send its function to a worker process ({error_line(error)}). Open what it uses inside the "
            "function, or leave joblib.parallel_config out: threads need not send it"
        ) from of_the_user(error)
