"""`@step.cached`: a function whose calls are steps, under a key made of its arguments (K11)."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import string
import sys
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from nbstep.keys import NoStableText, call_key, check_key, fill_named, scalar_text
from nbstep.options import misplaced
from nbstep.policy import POLICY_OPTIONS, policy_changes
from nbstep.thunks import GIVES_AWAITABLE

if TYPE_CHECKING:
    from nbstep.steps.front import Step

_OPTIONS: Final = ("refresh", "retries", "timeout", "on_error", *POLICY_OPTIONS)
_STARS: Final = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def cached(step: Step, template: Any, options: Mapping[str, Any]) -> Callable[..., Any]:
    """What `step.cached` gives: the function, or a decorator.

    Raises:
        TypeError: What it stands on is no function, or an option belongs elsewhere.
        ValueError: The template names an argument that the function does not take, or is none.
    """
    if template is not None and not isinstance(template, str):
        return _decorated(template, step, None, {})
    if template == "":
        raise ValueError('@step.cached(""): the template names nothing; write for example @step.cached("user:{uid}")')
    if "key" in options:
        raise TypeError(f"the template of @step.cached comes without a name: @step.cached({options['key']!r:.80})")
    for option in options:
        if option not in _OPTIONS:
            raise misplaced(option, "step.cached")
    policy_changes({name: value for name, value in options.items() if name in POLICY_OPTIONS})
    return functools.partial(_decorated, step=step, template=template, options=options)


def _decorated(function: Any, step: Step, template: str | None, options: Mapping[str, Any]) -> Callable[..., Any]:
    _check_function(function)
    signature = inspect.signature(function)
    name = function.__qualname__.rpartition("<locals>.")[2]
    if template is None:
        _check_bare(function, signature)
    else:
        _check_template(template, function.__name__, signature)
    constant = template is not None and not _fields(template) and bool(signature.parameters)
    note = _one_for_all(template, function.__name__, signature) if constant and template is not None else None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__name__}() {error}") from None
        bound.apply_defaults()
        key = _bare_key(name, bound) if template is None else _filled(template, bound)
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        thunk = functools.partial(function, **bound.kwargs) if bound.kwargs else function
        try:
            return _asking().ask_cached(caller, step.run, thunk, bound.args, key, template, note, options)
        except BaseException as error:
            _asking().without_first(error)
            raise

    if inspect.iscoroutinefunction(function):
        _mark_awaitable(call)
    return call


def _mark_awaitable(call: Callable[..., Any]) -> None:
    """Lets Python and `step` know that what the function gives is to be awaited, though it is no `async def` itself."""
    setattr(call, GIVES_AWAITABLE, True)
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(call)
    else:
        cast("Any", call)._is_coroutine = cast("Any", asyncio.coroutines)._is_coroutine


@functools.cache
def _asking() -> Any:
    return importlib.import_module("nbstep.steps.ask")


def _check_function(function: Any) -> None:
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise TypeError(f"@step.cached stands on the function itself: write @{kind} above @step.cached")
    if not isinstance(function, types.FunctionType):
        raise TypeError(
            f"@step.cached takes a function, got a {type(function).__name__}; for other callables: step(fn, argument, key=…)"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"@step.cached keeps what a function returns, and {function.__name__} is a generator; let it return a list"
        )


def _check_bare(function: types.FunctionType, signature: inspect.Signature) -> None:
    first = next(iter(signature.parameters), None)
    if first in {"self", "cls"} and "." in function.__qualname__:
        raise TypeError(
            f"bare @step.cached makes a key of all arguments, and {function.__name__} is a method: name what identifies "
            f"a call, {_write(function.__name__, signature)}; {{{first}.…}} may be in it too"
        )


def _check_template(template: str, name: str, signature: inspect.Signature) -> None:
    known = signature.parameters
    wrong = f"@step.cached({template!r}) on {name}"
    try:
        fields = _fields(template)
        for _, field, _, conversion in string.Formatter().parse(template):
            if field is not None and conversion not in {None, "", "r", "s", "a"}:
                raise ValueError(f"there is no conversion !{conversion}")
    except ValueError as error:
        raise ValueError(f"{wrong} is no template ({error}); double a brace that is meant: {{{{ }}}}") from None
    for field in fields:
        if field == "" or field.isdigit():
            raise ValueError(f"{wrong}: name the arguments, {_write(name, signature)}")
        if field not in known:
            raise ValueError(
                f"{wrong}: {template!r} names {field}, which {_call(name, signature)} does not take; "
                f'write for example "{_template(template.partition("{")[0].rstrip(":") or name, signature)}"'
            )


def _fields(template: str) -> list[str]:
    """The arguments that a template names."""
    found: list[str] = []
    for _, field, spec, _ in string.Formatter().parse(template):
        if field is not None:
            found.append(field.partition(".")[0].partition("[")[0])
            found += _fields(spec or "")
    return found


def _one_for_all(template: str, name: str, signature: inspect.Signature) -> str:
    """What is said of a template without any argument."""
    return f"{template}: {_call(name, signature)} keeps one result for all its arguments; {_write(template, signature)}"


def _call(name: str, signature: inspect.Signature) -> str:
    return f"{name}({', '.join(_own(signature))})"


def _write(prefix: str, signature: inspect.Signature) -> str:
    return f'write @step.cached("{_template(prefix, signature)}")'


def _template(prefix: str, signature: inspect.Signature, odd: str | None = None) -> str:
    return ":".join([prefix, *(f"{{{name}.…}}" if name == odd else f"{{{name}}}" for name in _own(signature))])


def _own(signature: inspect.Signature) -> list[str]:
    return [name for name in signature.parameters if name not in {"self", "cls"}]


def _filled(template: str, bound: inspect.BoundArguments) -> str:
    __tracebackhide__ = True
    try:
        return check_key(fill_named(template, bound.arguments))
    except NoStableText as error:
        text = str(error).replace("step.key cannot", f"@step.cached({template!r}) cannot")
        raise TypeError(text) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"@step.cached({template!r}) does not fit its arguments ({error})") from None


def _bare_key(name: str, bound: inspect.BoundArguments) -> str:
    __tracebackhide__ = True
    signature = bound.signature
    parameters = [f"{_STARS.get(one.kind, '')}{one.name}" for one in signature.parameters.values()]
    return call_key(name, parameters, bound.arguments, functools.partial(_scalar, name, signature))


def _scalar(name: str, signature: inspect.Signature, argument: str, value: object) -> str:
    __tracebackhide__ = True
    text = scalar_text(value)
    if text is None:
        short = name.rpartition(".")[2]
        raise TypeError(
            f"bare @step.cached makes a key of plain values only, and {argument}= is a {type(value).__name__}; name what "
            f'identifies it: @step.cached("{_template(short, signature, argument)}")'
        )
    return text
