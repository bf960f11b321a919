"""Who asked a key first in a run, so that whoever asks it again is known to be the same step, or not (K8)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from nbstep.collisions.compare import difference
from nbstep.collisions.look import Look, changed_since, look_at
from nbstep.collisions.message import collision_in_run
from nbstep.events import Place
from nbstep.foreign import interrupts
from nbstep.keyfindings.sites import NOWHERE, Site
from nbstep.thunks import Thunk

# An endless run forgets who asked first, sooner or later.
_MAX_KEYS: Final = 20_000
_At: TypeAlias = tuple[Hashable, str]
_PROMPTS: Final = ("<stdin>", "<console>", "<python-input")


@dataclass(slots=True)
class FirstAsks:
    """The first call for each key of each cache, in one run with all that is inside it.

    Attributes:
        endless: The run ends with its process: a function that was edited and loaded again is no other step, nor is another
            line at a prompt.
    """

    endless: bool = False
    _asks: dict[Hashable, dict[str, tuple[Look, Place]]] = field(
        default_factory=dict[Hashable, "dict[str, tuple[Look, Place]]"]
    )
    _last: Look | None = None
    # The names that changed while the thunk of a first call ran.
    _states: dict[_At, frozenset[str]] = field(default_factory=dict[_At, frozenset[str]])

    def check(
        self,
        scope: Hashable,
        key: str,
        thunk: Thunk,
        args: tuple[Any, ...],
        place: Place,
        template: str | None = None,
        site: Site = NOWHERE,
    ) -> Look | None:
        """Remembers a call, or compares it with the first one; `template` is that of `@step.cached`, `site` the call's.

        Gives what it remembered, where this call is the first.

        Raises:
            KeyCollision: They are certainly different steps.
        """
        try:
            self._last = look = look_at(thunk, args, self._last)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd callables and arguments must not cost the value (C3)
            return None
        return self.check_look(scope, key, look, place, template, site)

    def check_look(
        self, scope: Hashable, key: str, look: Look, place: Place, template: str | None = None, site: Site = NOWHERE
    ) -> Look | None:
        """The same of a look that was taken."""
        try:
            asks = self._asks.get(scope)
            if asks is None:
                asks = self._asks.setdefault(scope, {})
            known = asks.get(key)
            if known is None:
                if len(asks) >= _MAX_KEYS:  # at once, as what is deleted one by one at its front makes a dict slow
                    asks = self._asks[scope] = dict(islice(list(asks.items()), _MAX_KEYS // 10, None))
                known = asks.setdefault(key, (look, place))
            first = known[0]
            if look is first:
                return look
            if (
                look.code is first.code and look.callee_id == first.callee_id and look.sights == first.sights
                and look.labels == first.labels
            ):  # fmt: skip
                return None
            found = difference(first, look, self._states.get((scope, key), frozenset()))
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return None
        if found is None:
            return None
        if self.endless and _is_new_version(first, look):
            asks[key] = look, place
            return None
        raise collision_in_run(key, found, known, (look, place), template, site)

    def note_ran(self, scope: Hashable, key: str, thunk: Thunk, args: tuple[Any, ...]) -> None:
        """After a thunk ran: the names that hold something else now are state, which says nothing of the step."""
        at = scope, key
        known = self._asks.get(scope, {}).get(key)
        if known is None:
            return
        try:
            changed = changed_since(known[0], thunk, args)
            if changed:
                self._states[at] = self._states.get(at, frozenset()).union(changed)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return


def _is_new_version(first: Look, now: Look) -> bool:
    if now.code is None or first.code is None:
        return False
    if now.code.co_filename.startswith(_PROMPTS):
        return True
    named = now.code.co_name != "<lambda>" and now.code.co_qualname == first.code.co_qualname
    return named and now.code is not first.code and now.code.co_filename == first.code.co_filename
