"""The run that steps inside an item of a map belong to, in a worker process: over the cache it reaches, else over none."""

from __future__ import annotations

import atexit
import contextvars
import functools
import pickle
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

from nbstep.cache.reach import NotReached, reached
from nbstep.collisions.firstasks import FirstAsks
from nbstep.events import Event, Place, StepMissed
from nbstep.foreign import interrupts
from nbstep.forks import ThreadLock
from nbstep.policy import Policy
from nbstep.runs.hooks import handed_run
from nbstep.runs.state import Frame, Run, enclosing
from nbstep.settings import Mode

_OPEN_AT_MOST: Final = 4


class Around(NamedTuple):
    """What is around the work of a map's items.

    Attributes:
        envelope: Where the cache is, for `reached`; None where a worker cannot reach it.
        has_cache: There is one.
        root: The id of the outermost run.
        started: When that began, in seconds since the epoch.
        name: The name of the map's run; the other fields are those of that run, too.
    """

    envelope: bytes | None
    has_cache: bool
    root: str
    started: float
    name: str | None
    mode: Mode
    policy: Policy
    flags: Mapping[str, Any]
    mode_flag: Mode | None
    retry_errors: bool
    rerun_drifted: bool
    place: Place


def packed_around(run: Run, envelope: bytes | None) -> bytes:
    """What is around the work, as bytes; what of the policy cannot be sent is as where nobody says anything."""
    root = run.root()
    around = Around(
        envelope, run.cache is not None, root.id, root.started, run.name, run.mode, run.policy, run.flags, run.mode_flag,
        run.retry_errors, run.rerun_drifted, run.place,
    )  # fmt: skip
    packed = _packed(tuple(around))
    if packed is None:
        sent = {
            one.name: value for one in fields(Policy) if _packed(value := getattr(run.policy, one.name)) is not None
        }
        flags = {name: value for name, value in run.flags.items() if _packed(value) is not None}
        packed = _packed(tuple(around._replace(policy=replace(Policy(), **sent), flags=flags)))
    return packed or b""


def _packed(value: Any) -> bytes | None:
    import cloudpickle

    try:
        return cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - of whatever kind
        return None


@functools.lru_cache(maxsize=16)
def around_of(packed: bytes) -> Around:
    """What is around the work, in the worker."""
    return Around(*pickle.loads(packed))


class Inside:
    """What is inside the work of one item: its run is opened when the first step there asks for it.

    Args:
        packed: What `packed_around` gave.
        key: That of the item.
    """

    def __init__(self, packed: bytes, key: str | None) -> None:
        self._packed = packed
        self._key = key
        self._opened: _Opened | None = None
        self._frame: Frame | None = None

    def context(self) -> contextvars.Context:
        """A context in which steps belong to that run."""
        context = contextvars.copy_context()
        if self._packed:
            context.run(handed_run.set, self._run)
        return context

    def end(self) -> tuple[tuple[str, ...], bool]:
        """The work is over: the keys of that cache that were asked inside, and whether it was not reached for a step's value."""
        opened, frame = self._opened, self._frame
        if opened is None or frame is None:  # mostly there are none
            return (), False
        frame.ended = True
        return () if opened.run.cache is None else tuple(dict.fromkeys(frame.used)), opened.is_unkept

    def _run(self) -> Run:
        if self._opened is None:
            self._opened = _open(self._packed)
            self._frame = Frame(self._opened.run, self._opened.run.next_step(), self._key, None)
        if enclosing.get() is None:
            enclosing.set(self._frame)
        return self._opened.run


class _Opened:
    """The run of one map in this process: what its items have in common, such as a key that is refreshed once."""

    def __init__(self, around: Around) -> None:
        self.is_unkept = False
        cache = None
        if around.envelope is not None:
            try:
                cache = reached(around.envelope)
            except NotReached:
                pass
            except interrupts():
                raise
            except BaseException:  # noqa: BLE001, S110 - a cache that fails never costs the user work (C3)
                pass
        outer = Run(
            around.name, cache, around.mode, around.policy, around.place, (), endless=True, id=around.root,
            started=around.started, first_asks=FirstAsks(True),
        )  # fmt: skip
        self._expects = around.has_cache and cache is None
        self.run = Run(
            around.name, cache, around.mode, around.policy, around.place, (self._hear,), flags=dict(around.flags),
            mode_flag=around.mode_flag, retry_errors=around.retry_errors, rerun_drifted=around.rerun_drifted, parent=outer,
            endless=True,
        ).open()  # fmt: skip
        atexit.register(self.run.close)

    def close(self) -> None:
        """Ends it; what still runs inside it stays with it."""
        atexit.unregister(self.run.close)
        self.run.close()

    def _hear(self, event: Event) -> None:
        if self._expects and type(event) is StepMissed and event.run == self.run.id and event.key is not None:
            self.is_unkept = True


_opened: Final[dict[bytes, _Opened]] = {}
_lock: Final = ThreadLock()


def _open(packed: bytes) -> _Opened:
    with _lock:
        found = _opened.get(packed)
        if found is None:
            if len(_opened) >= _OPEN_AT_MOST:
                _opened.pop(next(iter(_opened))).close()
            found = _opened[packed] = _Opened(around_of(packed))
        return found
