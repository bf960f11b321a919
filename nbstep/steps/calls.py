"""One call of `step`, as a record: what was asked, where, inside what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbstep.cache.records import Miss
from nbstep.collisions.kept import names_of
from nbstep.collisions.look import look_at
from nbstep.drift.code import code_fingerprint
from nbstep.events import Place
from nbstep.policy import Policy
from nbstep.runs.state import Frame, Run
from nbstep.thunks import Thunk


@dataclass(frozen=True, slots=True)
class Options:
    """What a step was asked beside its key: `retries` more attempts, at most `timeout_s` for each.

    `plain` says that its value is wanted at once, whatever kind of step kept it, as `step.map` does.
    """

    policy: Policy
    refresh: bool = False
    retries: int = 0
    timeout_s: float | None = None
    hand_back: bool = False
    plain: bool = False


@dataclass(eq=False, slots=True)
class Call:
    """One call of `step`, with all it needs to run now or later.

    Attributes:
        asked: Seconds since the epoch, when it was called.
        site: Tells the text of the call from others; None where it has none.
        template: That of `@step.cached`, where the call is one of such a function.
        waits_until: When its wait for others ends, where that is limited; seconds of the monotonic clock.
        missed: What its last look-up gave, where it found nothing.
        seen: Marks the entry that its last look-up found.
        blind: Its last look-up could not read what is there.
    """

    run: Run
    step: int
    key: str | None
    thunk: Thunk
    args: tuple[Any, ...]
    options: Options
    place: Place
    outer: Frame | None
    asked: float
    site: str | None = None
    template: str | None = None
    announced: bool = False
    waits_until: float | None = None
    missed: Miss | None = None
    seen: bytes | None = None
    blind: bool = False
    _code: Mapping[str, str] | None = None

    def code(self) -> Mapping[str, str]:
        """The code fingerprint, made when first needed."""
        if self._code is None:
            try:
                self._code = code_fingerprint(self.thunk)
            except Exception:  # noqa: BLE001 - odd callables must not cost the value (C3)
                self._code = {}
        return self._code

    def names(self) -> tuple[str, ...] | None:
        """The functions and attributes that its work names; None where they cannot be told."""
        try:
            return names_of(look_at(self.thunk, self.args), self.code())
        except Exception:  # noqa: BLE001 - as above
            return None
