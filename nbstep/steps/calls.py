"""One call of `step`, as a record: what was asked, where, inside what."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, Protocol

from nbstep.batch.pace import Pace
from nbstep.batch.stop import Stop
from nbstep.cache.drifted import Drifted
from nbstep.cache.records import Hit, Meta, Miss
from nbstep.cache.trust import signing_key
from nbstep.collisions.kept import names_of
from nbstep.drift.alike import Like, like, with_shared
from nbstep.drift.handed import look_behind_call
from nbstep.drift.inputs import (
    SIGNER,
    Changing,
    Fixed,
    Inputs,
    Named,
    are_lasting,
    callables_in,
    changed_in_place,
    moved,
    note_changes,
    settled,
)
from nbstep.drift.lineage import HANDED_OUT, note_handed_out, origin_of
from nbstep.drift.reading import read_fixed, read_inputs
from nbstep.drift.seen import UNKNOWN, Digests, Seen
from nbstep.drift.sourcetext import file_name, source_text, source_texts
from nbstep.drift.surely import surely_same
from nbstep.drift.today import drifted
from nbstep.drift.wanted import ALL, Wanted
from nbstep.events import Place, StepFinished
from nbstep.foreign import interrupts
from nbstep.keyfindings.sites import NOWHERE, Site
from nbstep.notes import command_text, error_line
from nbstep.policy import Policy
from nbstep.runs.state import Frame, Run
from nbstep.steps.filelines import FileLine, lines_of_computed, lines_of_found, lines_of_kept_elsewhere
from nbstep.steps.inline import Inline
from nbstep.thunks import Thunk
from nbstep.words import spot_text


class QuickSteps(Protocol):
    """What takes steps of a map that are as others were, as `quick.py` does."""

    def take(self, step: int, key: str, thunk: Thunk, args: tuple[Any, ...], asked: float, compute: Any) -> Any:
        """Gives what a step gives, or that it is to go the whole way."""
        ...

    def begin(self, step: int, key: str, thunk: Thunk, args: tuple[Any, ...], asked: float) -> tuple[Any, bool]:
        """Begins a step as far as that calls nobody's code; gives it, and whether it can go on so."""
        ...

    def are_like(self, call: Call) -> bool:
        """Whether a step that went the whole way is as those are."""
        ...


class Alike:
    """What was last found of what the steps of one map share; each checks that it is still so."""

    __slots__ = ("changing", "named", "quick")

    def __init__(self) -> None:
        self.changing = Changing()
        self.named: Named | None = None
        self.quick: QuickSteps | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What a step was asked beside its key: `retries` more attempts, at most `timeout_s` for each.

    `hand_back` says that an error is handed back, and a value in its box; `bare` that one which surely is no box itself may
    come without. `map` numbers the `step.map` that it is an item of, which wants its value at once, whatever kind of step kept it.
    `inputs` says which inputs count. `pace` says how often a thunk may begin, `stop` whether none may any more. `elsewhere` says
    that another process calls the thunk. `alike` is shared by the steps of one map.
    """

    policy: Policy
    refresh: bool = False
    retries: int = 0
    timeout_s: float | None = None
    hand_back: bool = False
    bare: bool = False
    map: int | None = None
    inputs: Wanted = ALL
    pace: Pace | None = None
    stop: Stop | None = None
    elsewhere: bool = False
    alike: Alike | None = None


class Told(NamedTuple):
    """What an entry says of the work of its step, as in `Facts`."""

    code: Mapping[str, str]
    exact: str
    source: str | None
    sources: Mapping[str, str]
    names: tuple[str, ...] | None


@dataclass(eq=False, slots=True)
class Call:
    """One call of `step`, with all it needs to run now or later.

    Attributes:
        asked: Seconds since the epoch, when it was called.
        site: What is known of the text of the call.
        template: That of `@step.cached`, where the call is one of such a function.
        waits_until: When its wait for others ends, where that is limited; seconds of the monotonic clock.
        missed: What its last look-up gave, where it found nothing.
        seen: Marks the entry that its last look-up found.
        blind: Its last look-up could not read what is there.
        before: Its inputs before the thunk ran.
        fixed: What should not change until it runs, as it was when the step was called; None where it runs at once.
        moved: The names that meant something else when it ran.
        made_from: The keys of the steps that handed out its inputs.
        unchecked: Why it cannot be told whether its code and inputs are those of an entry; empty where it can.
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
    site: Site = NOWHERE
    template: str | None = None
    announced: bool = False
    waits_until: float | None = None
    missed: Miss | None = None
    seen: bytes | None = None
    blind: bool = False
    before: Inputs | None = None
    fixed: Fixed | None = None
    moved: tuple[str, ...] = ()
    made_from: tuple[str, ...] = ()
    unchecked: str = ""
    _seen_code: Seen | None = None
    _seen_thunk: Thunk | None = None
    _is_settled: bool = False

    def command(self, verb: str) -> str:
        """A command on its key, as it is written where it was called."""
        run = self.run
        in_notebook = run.place.cell is not None
        return command_text(verb, self.key or "", in_notebook=in_notebook, folder=run.command_folder())

    def work(self) -> Thunk:
        """What does the work: the thunk, or the function that stands for a cell's body."""
        thunk = self.thunk
        return thunk.__wrapped__ if type(thunk) is not FunctionType and isinstance(thunk, Inline) else thunk

    def code(self) -> Mapping[str, str]:
        """The code fingerprint, made when first needed."""
        try:
            return self._behind().code
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - odd code must not cost the value (C3)
            self._note_unchecked(error)
            return {}

    def exact(self) -> str:
        """The digest of all its code as Python compiled it; empty where it cannot be read."""
        try:
            return self._glimpsed().fingerprint.exact
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._note_unchecked(error)
            return ""

    def where(self, name: str) -> str:
        """The file that a function or class of its code stands in; empty where that is the notebook."""
        try:
            return file_name(self._behind(), name)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as below
            return ""

    def inputs(self, objects: list[Any] | None = None) -> Inputs:
        """The inputs as they are now; none where they cannot be read. `objects` is given what of them may be another step's."""
        wanted, alike = self.options.inputs, self.options.alike
        like = None if alike is None else alike.named
        try:
            seen = self._behind()
            read = read_inputs(
                self.work(), self.args, seen, signing_key(), wanted, objects=objects, like=like,
                changing=None if alike is None else alike.changing,
            )  # fmt: skip
            if alike is not None and wanted is ALL:
                read, alike.named = with_shared(read, like, seen)
            return read
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - as for the code
            self._note_unchecked(error)
            return Inputs()

    def surely_same(self, kept: Mapping[str, str]) -> bool:
        """Whether the inputs are certainly those that an entry knows."""
        if self.options.inputs is not ALL:
            return False
        try:
            return surely_same(kept, self.thunk, self.args, self._glimpsed(), signing_key())
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return False

    def note_fixed(self) -> None:
        """Remembers, of a step that is to run later, what should be the same then (K10)."""
        if self.key is not None and self.run.cache is not None:
            self.fixed = self._read_fixed()

    def note_inputs(self) -> None:
        """Remembers the inputs before the thunk runs, where what it gives may be kept."""
        if self.before is None and self.key is not None and self.run.cache is not None:
            objects: list[Any] = []
            self.before = self.inputs(objects)
            self.made_from = self.origins(objects)

    def note_read(self, seen: Seen, before: Inputs) -> None:
        """Remembers what was read before the thunk ran."""
        self._seen_code, self._seen_thunk, self._is_settled = seen, self.thunk, True
        self.before = before

    def like(self) -> Like | None:
        """How inputs are read of calls that differ in their argument alone, given those it had."""
        alike = self.options.alike
        if self.before is None or self.made_from or alike is None or self.options.inputs is not ALL:
            return None
        return like(self.before, alike.named, self.thunk, self.args, self._behind(), signing_key())

    def note_moved(self) -> None:
        """Remembers what names mean something else, now that the thunk runs; tells of arguments that were changed in place."""
        if self.fixed is None:
            return
        now = self._read_fixed()
        self.moved = moved(self.fixed.named, now.named)
        for name in moved(self.fixed.arguments, now.arguments):
            self.run.find(
                "moved", self.key,
                f"{self.key}: `{name}` was changed between its call and its await, and it gets the newer one; unless the step "
                f"itself does that, call it with a copy, and delete what is kept: {self.command('rm')}",
            )  # fmt: skip

    def settled_inputs(self) -> Mapping[str, str]:
        """The inputs that the thunk, which has run, left as they were; tells which arrays, frames and named files are not."""
        if self.before is None:
            return {}
        after = self._inputs_after(self.before)
        for name in changed_in_place(self.before, after) if self.before.tables else ():
            self.run.find(
                "changed-in-place", self.key,
                f"{self.key}: its function changes `{name}` in place, and a hit will not: work on a copy, and return it",
            )  # fmt: skip
        if self.options.inputs.files:
            self._tell_of_files(lines_of_computed(self.before, after, self.options.inputs.files))
        if after is self.before:
            same = self.before.texts
        else:
            same = settled(self.before, after)
            if self.options.alike is not None:
                note_changes(self.before, after, self._behind(), self.options.alike.changing)
        return same if len(same) > (SIGNER in same) else {}

    def note_kept_elsewhere(self, inputs: Mapping[str, str]) -> None:
        """Tells the same of files by the inputs of an entry that another process kept."""
        if self.before is not None and (files := self.options.inputs.files):
            self._tell_of_files(lines_of_kept_elsewhere(self.before, inputs, files))

    def note_used(self, meta: Meta) -> None:
        """Tells which of the files that its options name an entry that is used does not count."""
        files = self.options.inputs.files
        if files and self.options.policy.on("inputs") != "ignore":
            self._tell_of_files(lines_of_found(meta, signing_key(), files))

    def _tell_of_files(self, lines: Iterable[FileLine]) -> None:
        """Tells each once a line of code and file."""
        spot = spot_text(self.place)
        for line in lines:
            text = f"{spot}: `{line.path}` of files= {line.text.format(rm=self.command('rm'))}"
            self.run.find(line.kind, self.key, text, once=f"{spot} {line.path}")

    def _inputs_after(self, before: Inputs) -> Inputs:
        """The inputs now that the thunk ran: those from before, where they can be no other."""
        try:
            if are_lasting(before, self.work(), self.args, self._behind(), signing_key()):
                return before
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001, S110 - as for the code
            pass
        return self.inputs()

    def _read_fixed(self) -> Fixed:
        try:
            return read_fixed(self.work(), self.args, self._behind(), signing_key(), self.options.inputs)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as for the code
            return Fixed()

    def source(self) -> str | None:
        """The thunk's source text, for people."""
        return self.thunk.source if isinstance(self.thunk, Inline) else source_text(self.thunk)

    def sources(self) -> Mapping[str, str]:
        """The source texts of what it names, for people."""
        return source_texts(self._behind())

    def told(self) -> Told:
        """All of this for an entry, found once for the items of a map: it goes by the fingerprint, the code and its name."""
        seen, thunk = self._behind(), self.thunk
        by = seen.fingerprint
        if type(by) is not Digests or type(thunk) is not FunctionType or seen.first is not thunk:
            return self.told_anew()
        known = by.told
        if known is None or known[0] is not thunk.__code__ or known[1] is not thunk.__qualname__:
            told = self.told_anew()
            if self.unchecked:
                return told
            by.told = known = thunk.__code__, thunk.__qualname__, told
        return known[2]

    def told_anew(self) -> Told:
        """The same, whatever is known."""
        code = self.code()
        return Told(code, self.exact(), self.source(), self.sources(), self.names(code))

    def drifted(self, found: Hit, drift: str) -> Drifted:
        """What this look-up found changed since an entry was kept."""
        facts, policy = found.meta.facts, self.options.policy
        code = self.code() if policy.on("code") != "ignore" else {}
        inputs = self.inputs() if policy.on("inputs") != "ignore" else None
        own = self.source()
        sources = {**({} if own is None else {"": own}), **self.sources()}
        return drifted(facts, found.mark, self.run.clock(), drift, code, inputs, self.names(), sources)

    def uses(self, inside: Iterable[str]) -> tuple[str, ...]:
        """The keys that went into its result, given those asked inside its thunk (D6)."""
        used = (*self.made_from, *inside)
        return tuple(key for key in dict.fromkeys(used) if key != self.key) if used else ()

    def tell_outer(self, inside: Iterable[str] = ()) -> None:
        """Tells the step around it what it used: this key, or where it has none what was asked inside it."""
        outer = self.outer
        if outer is not None and outer.run.scope() == self.run.scope():
            outer.used.extend(inside if self.key is None else (self.key,))

    def note_handed_out(self, value: Any, size_bytes: int, *, plain: bool, loaded: bool = False) -> None:
        """Remembers that this step handed out `value`, so that a step which takes it is linked to this one (D6)."""
        if self.key is not None:
            maps = self.maps()
            note_handed_out(value, self.run.scope(), self.key, size_bytes, plain=plain, loaded=loaded, maps=maps)

    def maps(self) -> tuple[object, ...]:
        """What stands for each map of which it is an item, or inside one; the innermost last."""
        around = () if self.outer is None else self.outer.maps
        return around if self.options.alike is None else (*around, self.options.alike.changing)

    def origins(self, objects: Sequence[Any]) -> tuple[str, ...]:
        """The keys, in the same cache, of the steps that handed out what it takes: `objects`, and what it calls."""
        try:
            own_map = None if self.options.alike is None else self.options.alike.changing
            return origins_of(objects, self._behind(), self.run.scope(), self.options.inputs.ignore, self.args, own_map)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return ()

    def _behind(self) -> Seen:
        if self._is_settled and self._seen_code is not None and self._seen_thunk is self.thunk:
            return self._seen_code  # it is asked for several times a step
        try:
            seen = self._glimpsed().settled()
            self._is_settled = True
            return seen
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - odd code must not cost the value (C3)
            self._note_unchecked(error)
            self._seen_code = Seen(UNKNOWN, type(self.thunk))
            return self._seen_code

    def _glimpsed(self) -> Seen:
        """The same as far as it was read: enough to compare it at once."""
        if self._seen_code is None or self._seen_thunk is not self.thunk:  # it may have been frozen since
            self._seen_thunk, self._is_settled = self.thunk, False
            try:
                self._seen_code = look_behind_call(self.thunk, self.args)
            except interrupts():
                raise
            except BaseException as error:  # noqa: BLE001 - odd callables must not cost the value (C3)
                self._note_unchecked(error)
                self._seen_code = Seen(UNKNOWN, type(self.thunk))
        return self._seen_code

    def tell_stop(self, error: BaseException) -> None:
        """Tells of an interrupt, or of a cancelled task, that it ended the step while it waited."""
        run, text = self.run, error_line(error)
        run.tell(StepFinished(run.id, self.step, self.key, "error", run.clock(), 0.0, error=text, interrupted=True))
        run.note_raised(error, keyed=True)

    def tell_unchecked(self) -> None:
        """Tells, once a run, that what was kept was given back without its drift check."""
        if self.unchecked and self.key is not None:
            self.run.find(
                "unchecked", None,
                f"{self.key}: whether its code or inputs changed could not be checked ({self.unchecked}), so what was kept was "
                f"given back unchecked; to run it anew, delete that: {self.command('rm')}", once=True,
            )  # fmt: skip

    def _note_unchecked(self, error: BaseException) -> None:
        self.unchecked = self.unchecked or error_line(error)

    def names(self, code: Mapping[str, str] | None = None) -> tuple[str, ...] | None:
        """The functions and attributes that its work names, given its code fingerprint; None where they cannot be told."""
        try:
            return names_of(self.thunk, self.args, self.code() if code is None else code)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return None


def origins_of(
    objects: Sequence[Any],
    seen: Seen,
    scope: Hashable,
    ignore: frozenset[str] = frozenset(),
    args: Sequence[Any] = (),
    own_map: object = None,
) -> tuple[str, ...]:
    """The keys, in the cache of a scope, of the steps that handed out some objects, or what a work calls.

    Args:
        objects: The inputs of a step.
        seen: What is behind its work.
        scope: Names the cache.
        ignore: The names of inputs that do not count.
        args: Those inputs that it is called with.
        own_map: Stands for the map that it is an item of: what its items put into what else is named, is nothing that it takes.
    """
    callables = callables_in(seen, ignore) if seen.found.sources.callables else ()
    if not objects and not callables:
        return ()
    if own_map is None:
        found = HANDED_OUT.origins_of_all([*objects, *callables])
    else:
        given = {id(one) for one in args}
        taken, named = list[Any](), list[Any]()
        for one in objects:
            (taken if id(one) in given else named).append(one)
        taken += callables
        found = (*HANDED_OUT.origins_of_all(taken), *HANDED_OUT.origins_of_all(named, own_map))
    if not found:
        return ()
    here = origin_of(scope, "")[0]
    return tuple(dict.fromkeys(key for cache, key, _ in found if cache == here))
