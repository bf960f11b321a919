"""What one call of `step` or `step.map` in a cell asks, where the cell's text and the notebook's plain values tell it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nbstep.keyfindings.sites import site_id
from nbstep.keys import check_key, fill_template
from nbstep.notebook.planning.plainvalues import FUNCTIONS, NotPlain, work_out
from nbstep.notebook.planning.scopes import Names, Scope
from nbstep.notebook.planning.sites import Foreseen, Given, Site, key_of, pattern_of

_NOT_OF_THE_ENTRY: Final = ("key", "n_jobs", "on_error", "retries", "timeout")
_WIDE: Final = re.compile(r"\d{4}")


@dataclass(slots=True)
class Found:
    """What is known so far of one call; `code_name` is that of its scope."""

    call: ast.Call
    code_name: str
    steps: dict[str, Foreseen] = field(default_factory=dict[str, Foreseen])
    made_running: bool = False
    without_key: bool = False

    def add(self, names: Names, scope: Scope) -> None:
        """Takes up what the call asks when a run comes by once."""
        key = key_of(self.call)
        if key is None:
            unpacked = any(keyword.arg is None for keyword in self.call.keywords)
            self.made_running |= unpacked
            self.without_key |= not unpacked
            return
        ask = _mapped if isinstance(self.call.func, ast.Attribute) else _one
        try:
            for step in ask(self.call, key, names, scope):
                self.steps.setdefault(check_key(step.key), step)
        except (NotPlain, TypeError, ValueError, LookupError, AttributeError):  # also where a run would fail
            self.made_running = True

    def site(self, above: int, lines: int) -> Site:
        """The call as a site, in a cell of so many lines whose text begins below so many."""
        pattern = "" if self.without_key else pattern_of(self.call)
        line, steps = self.call.lineno + above, tuple(self.steps.values())
        return Site(line, steps, self.made_running, self.without_key, pattern, self._ids(above + lines))

    def _ids(self, lines: int) -> frozenset[str]:
        """How the run log may know the call: by its text and the name of the code around it, which depends on versions."""
        outer, *inner = self.code_name.split()
        names = {outer, *inner}
        if outer == "<module>":
            names |= {f"<cell line: {line}>" for line in range(1, lines + 1)}
        text = ast.unparse(self.call)
        return frozenset(site_id(name, text) for name in names)


def _one(call: ast.Call, key: ast.expr, names: Names, scope: Scope) -> list[Foreseen]:
    try:
        text = work_out(key, _no_name)
    except NotPlain:
        if not scope.sure:
            raise
        text = names.value(key, scope)
    return [Foreseen(text, _given(call, call.args[1:], names, scope), _options(call, names, scope))]


def _no_name(name: str) -> Any:
    if name in FUNCTIONS:
        raise KeyError(name)
    raise NotPlain


def _mapped(call: ast.Call, key: ast.expr, names: Names, scope: Scope) -> list[Foreseen]:
    items = names.turns(call.args[1], scope) if scope.sure else None
    if items is None:
        raise NotPlain
    given, options = _given(call, (), names, scope), _options(call, names, scope)
    keys, at_once = list(_keys_of(items, key, names, scope)), _at_once(call, names, scope)
    return [
        Foreseen(text, None if given is None else replace(given, args=(item,)), options, at_once)
        for item, text in zip(items, keys, strict=True)
    ]


def _at_once(call: ast.Call, names: Names, scope: Scope) -> int:
    """What `n_jobs=` says; one where it is left out or counts from the number of processors, as the backend decides then."""
    try:
        said = [names.value(keyword.value, scope) for keyword in call.keywords if keyword.arg == "n_jobs"]
    except NotPlain:
        return 1
    return said[0] if said and type(said[0]) is int and said[0] > 0 else 1


def _keys_of(items: Sequence[Any], key: ast.expr, names: Names, scope: Scope) -> Iterator[str]:
    if isinstance(key, ast.Lambda):
        parameters = [one.arg for one in ast.walk(key.args) if isinstance(one, ast.arg)]
        if len(parameters) != 1 or key.args.defaults or key.args.vararg or key.args.kwarg:
            raise NotPlain
        for item in items:
            yield names.value(key.body, Scope({**scope.bound, parameters[0]: item}))
        return
    template = names.value(key, scope)
    if _WIDE.search(template):
        raise NotPlain
    yield from (fill_template(template, item) for item in items)


def _given(call: ast.Call, args: Sequence[ast.expr], names: Names, scope: Scope) -> Given | None:
    """The function and the arguments of a step, where the notebook holds them as a run would meet them."""
    try:
        function = names.function(call.args[0], scope)
        return Given(function, tuple([names.argument(arg, scope) for arg in args]), frozenset(scope.bound))
    except (NotPlain, LookupError):
        return None


def _options(call: ast.Call, names: Names, scope: Scope) -> Mapping[str, Any] | None:
    """The options that say whether an entry is used."""
    found: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            return None
        if keyword.arg not in _NOT_OF_THE_ENTRY:
            try:
                found[keyword.arg] = names.value(keyword.value, scope)
            except NotPlain:
                return None
    return found
