"""What the names in a cell's text hold at one place of it, as far as that is known before it runs."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nbstep.notebook.planning.bindings import binds_anything, handed_out
from nbstep.notebook.planning.plainvalues import MOST_ITEMS, NotPlain, is_plain_value, items_of, work_out

UNKNOWN: Final = object()


@dataclass(slots=True)
class Scope:
    """A place in a cell's text.

    Attributes:
        bound: What the names hold that the cell has bound by then; `UNKNOWN` where only a run tells.
        sure: A run certainly comes here.
        code_name: The name of the code around it, "<module>" for the cell's own; that of a comprehension follows it.
    """

    bound: dict[str, Any]
    sure: bool = True
    code_name: str = "<module>"

    def unsure(self) -> Scope:
        """The same place, where a run may come."""
        return Scope(dict(self.bound), False, self.code_name)

    def forget(self, names: Iterable[str]) -> None:
        """Of these names nothing is known any more."""
        self.bound.update(dict.fromkeys(names, UNKNOWN))


class Names:
    """Works out expressions of a cell's text.

    Args:
        tree: The cell.
        held: What the names of the notebook hold now.
    """

    def __init__(self, tree: ast.Module, held: Mapping[str, Any]) -> None:
        self._held: Mapping[str, Any] = {} if binds_anything(tree) else held
        self._handed_out = handed_out(tree)
        self._plain: dict[str, bool] = {}
        self._turns = 0

    def value(self, node: ast.expr, scope: Scope) -> Any:
        """The plain value of an expression.

        Raises:
            NotPlain: Only a run tells it.
        """
        return work_out(node, lambda name: self._plain_value(name, scope))

    def _plain_value(self, name: str, scope: Scope) -> Any:
        if name in scope.bound:
            value = scope.bound[name]
            if value is UNKNOWN:
                raise NotPlain
        else:
            value = self._held[name]
            if name not in self._plain:
                self._plain[name] = is_plain_value(value)
            if not self._plain[name]:
                raise NotPlain
        if type(value) in (list, dict) and name in self._handed_out:
            raise NotPlain
        return value

    def truth(self, node: ast.expr, scope: Scope) -> bool | None:
        """Whether a condition holds; None where only a run tells."""
        try:
            return bool(self.value(node, scope))
        except NotPlain:
            return None

    def turns(self, node: ast.expr, scope: Scope) -> list[Any] | None:
        """What a loop goes through; None where only a run tells, or where the cell has gone through too much."""
        try:
            items = items_of(self.value(node, scope))
        except (NotPlain, TypeError):
            return None
        if self._turns + len(items) > MOST_ITEMS:
            return None
        self._turns += len(items)
        return items

    def function(self, node: ast.expr, scope: Scope) -> Any:
        """What the notebook holds under the name of a function, or a module of its under that.

        Raises:
            NotPlain: It is another expression, or the cell binds it.
            KeyError: Nothing bound it.
        """
        match node:
            case ast.Name(id=name) if name not in scope.bound:
                return self._held[name]
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner not in scope.bound:
                module = self._held[owner]
                if type(module) is not types.ModuleType:  # of all else the user's code may answer
                    raise NotPlain
                return vars(module)[name]
            case _:
                raise NotPlain

    def argument(self, node: ast.expr, scope: Scope) -> Any:
        """What a step is given: a plain value, or whatever the notebook holds under a name.

        Raises:
            NotPlain: Only a run tells it.
            KeyError: Nothing bound it.
        """
        if isinstance(node, ast.Name) and node.id not in scope.bound and node.id not in self._handed_out:
            return self._held[node.id]
        return self.value(node, scope)
