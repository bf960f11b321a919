"""What a worker computed with: its own code and inputs, where they are not those of the kernel that asked it.

A worker imported its modules when it began; what was edited, reloaded or set in the kernel since is not there. An entry is to
say what its value was made by, so that a later look-up finds what differs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbstep.cache.records import Facts
from nbstep.cache.trust import signing_key
from nbstep.collisions.kept import names_of
from nbstep.drift.code import is_known_by_name
from nbstep.drift.explain import one_step
from nbstep.drift.handed import look_behind_call
from nbstep.drift.inputs import SIGNER, Inputs, are_lasting, file_of
from nbstep.drift.reading import names_given, read_inputs
from nbstep.drift.values import is_digest
from nbstep.drift.wanted import Wanted
from nbstep.foreign import interrupts


@dataclass(frozen=True, slots=True)
class OtherCode:
    """Code that is not the kernel's.

    Attributes:
        code: As in `Facts`.
        exact: As there.
        names: As there.
        parts: The names of what differs, "" for the function itself.
        is_own: The function itself differs, not only what it calls.
    """

    code: Mapping[str, str]
    exact: str
    names: tuple[str, ...] | None
    parts: tuple[str, ...]
    is_own: bool


@dataclass(frozen=True, slots=True)
class RanWith:
    """What of a worker is not as the kernel has it.

    Attributes:
        code: Its code; None where that is the kernel's, or nothing can be said.
        inputs: All that the entry is to say of inputs; None where that is what the kernel has.
        others: The names of variables that held something else there, which people are told.
        uses: The keys that were asked inside the work.
        is_unkept: A step inside was not kept, as that process does not reach the cache.
    """

    code: OtherCode | None = None
    inputs: Mapping[str, str] | None = None
    others: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    is_unkept: bool = False

    def told(self, facts: Facts) -> Facts:
        """What an entry says of its step, with this in it."""
        inputs = facts.inputs if self.inputs is None else self.inputs
        uses = tuple(dict.fromkeys((*facts.uses, *self.uses))) if self.uses else facts.uses
        facts = replace(facts, inputs=inputs if inputs.keys() - {SIGNER} else {}, uses=uses)
        other = self.code
        if other is None:
            return facts
        sources = {name: text for name, text in facts.sources.items() if name not in other.parts}
        source = None if "" in other.parts else facts.source  # a file may hold another text than was imported
        return replace(facts, code=other.code, exact=other.exact, names=other.names, source=source, sources=sources)


class Where(NamedTuple):
    """Where a process is.

    Attributes:
        host: Its machine.
        folder: Its working directory; empty where that is gone.
    """

    host: str
    folder: str

    @classmethod
    def here(cls) -> Where:
        """This process."""
        try:
            return cls(socket.gethostname(), os.getcwd())
        except OSError:
            return cls(socket.gethostname(), "")

    def means_the_same(self, other: Where, path: str) -> bool:
        """Whether a path is one file in both."""
        return self.host == other.host and (os.path.isabs(path) or self.folder == other.folder)


class Witness:
    """Sees, in a worker, what a function and its item mean there; made before the work.

    Args:
        thunk: The function.
        item: Its item.
        wanted: Which inputs count.
        kernel: Where the kernel is.
    """

    def __init__(self, thunk: Any, item: Any, wanted: Wanted, kernel: Where) -> None:
        self._thunk = thunk
        self._item = item
        self._wanted = wanted
        self._kernel = kernel
        self._before = self._read()

    def tells(self, facts: Facts) -> RanWith:
        """What is not as the kernel has it, whose facts these are, now that the work is done; what it changed is state (D2)."""
        try:
            inputs, others = self._inputs(facts.inputs)
            return RanWith(self._code(facts), inputs, others)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd code must not cost the value (C3)
            return RanWith()

    def _read(self) -> Inputs:
        args = (self._item,)
        try:
            return read_inputs(self._thunk, args, look_behind_call(self._thunk, args), signing_key(), self._wanted)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return Inputs()

    def _after(self) -> Inputs:
        args = (self._item,)
        seen = look_behind_call(self._thunk, args)
        return self._before if are_lasting(self._before, self._thunk, args, seen, signing_key()) else self._read()

    def _code(self, facts: Facts) -> OtherCode | None:
        """Looked at after the work, which may have imported what it calls."""
        seen = look_behind_call(self._thunk, (self._item,))
        if seen.fingerprint.exact == facts.exact:
            return None
        code = seen.code
        # What only one of them knows says nothing: the other one may have it installed, or not imported.
        parts = tuple(name for name, text in facts.code.items() if code.get(name, text) != text)
        by_name = is_known_by_name(self._thunk, code) or is_known_by_name(self._thunk, facts.code)
        if not parts or (by_name and "" in parts):
            return None
        names = names_of(self._thunk, (self._item,), code)
        is_own = not one_step(facts.code.get("", ""), code.get("", ""))[0]
        return OtherCode(dict(code), seen.fingerprint.exact, names, parts, is_own)

    def _inputs(self, asked: Mapping[str, str]) -> tuple[Mapping[str, str] | None, tuple[str, ...]]:
        before, after = self._before, self._after()
        one_key = before.texts.get(SIGNER) == asked.get(SIGNER)
        if one_key and before is after and before.texts == asked:  # most
            return None, ()
        found, others, here = dict[str, str](), list[str](), Where.here()
        for name, text in asked.items():
            was, own = before.texts.get(name), after.texts.get(name)
            if name == SIGNER or (was is None and own is None) or was == own == text:
                found[name] = text
            elif own is None or (was is not None and was != own):
                continue
            elif own == text or name in names_given(self._thunk, (self._item,), self._item):
                found[name] = text  # it was sent, maybe as an array in a file
            elif name.startswith("@"):
                path = after.paths.get(name) or before.paths.get(name, "")
                if self._kernel.means_the_same(here, path) or _sizes_differ(own, text):  # a copy has another time
                    found[name] = own
            elif (not one_key and is_digest(own) and is_digest(text)) or (was is None and name in after.loose):
                continue  # it cannot be told whether it is the same
            else:
                found[name] = own
                if name not in after.loose:
                    others.append(name)
        return (None if found == asked else found), tuple(others)


def _sizes_differ(one: str, other: str) -> bool:
    sizes = [None if (file := file_of(stamp)) is None else file[0] for stamp in (one, other)]
    return sizes[0] != sizes[1]
