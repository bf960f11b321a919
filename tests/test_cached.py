"""`@step.cached`: functions whose calls are steps (K11)."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from datetime import date
from pathlib import Path
from typing import Any

import pandas
import pytest

from nbstep import Cache, KeyCollision, Ok, create_workflow, step
from nbstep.events import Finding, StepAsked
from nbstep.testing import AsyncMemoryStore, RecordingListener

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def keys_of(body: Any, **options: Any) -> list[str]:
    cache: dict[str, bytes] = {}
    create_workflow(cache=cache, **options)(lambda _: body())
    return list(cache)


def test_k11_a_template_names_what_identifies_a_call() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int, retries: int = 3) -> dict[str, int]:
        ran.append(uid)
        return {"id": uid}

    workflow = create_workflow(cache={})
    for _ in range(2):
        assert workflow(lambda _: [fetch_user(1), fetch_user(uid=2)]) == Ok([{"id": 1}, {"id": 2}])
    assert ran == [1, 2]
    assert sorted(workflow.cache.keys()) == ["user:1", "user:2"]


def test_k11_bare_the_key_is_the_call() -> None:
    @step.cached
    def fetch_user(uid: Any, lang: str = "en") -> Any:
        return uid

    keys = keys_of(lambda: [fetch_user(1), fetch_user("1"), fetch_user(2, "de"), fetch_user(lang="de", uid=3)])
    assert keys == [
        "fetch_user(uid=1, lang='en')", "fetch_user(uid='1', lang='en')", "fetch_user(uid=2, lang='de')",
        "fetch_user(uid=3, lang='de')",
    ]  # fmt: skip


def test_k11_bare_with_parentheses_or_options_is_bare_too() -> None:
    @step.cached()
    def one(uid: int) -> int:
        return uid

    @step.cached(ttl="1h")
    def two(uid: int) -> int:
        return uid

    assert keys_of(lambda: [one(1), two(2)]) == ["one(uid=1)", "two(uid=2)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"), (None, "None"), (1.5, "1.5"), (date(2026, 1, 2), "2026-01-02"), (Path("a/b"), "a/b"), ("a b", "'a b'"),
        ("x" * 100, "#16434cf2a1d6b124"), (b"ab", "#"),
    ],
)  # fmt: skip
def test_k11_bare_takes_any_scalar(value: Any, text: str) -> None:
    @step.cached
    def f(x: Any) -> int:
        return 1

    (key,) = keys_of(lambda: f(value))
    assert key.startswith(f"f(x={text}")


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, 2), object(), {1}, [object()]])
def test_k11_bare_refuses_anything_else_and_names_the_template_to_write(value: Any) -> None:
    @step.cached
    def fetch(rows: Any, n: int = 1) -> int:
        ran.append(rows)
        return 1

    with pytest.raises(TypeError, match=r'@step\.cached\("fetch:\{rows.*\}:\{n\}"\)') as caught:
        keys_of(lambda: fetch(value))
    assert f"rows= is a {type(value).__name__}" in str(caught.value)
    assert ran == []


def test_k11_further_arguments_stand_in_the_key_as_in_the_call() -> None:
    @step.cached
    def f(*parts: Any, **options: Any) -> int:
        return 1

    assert keys_of(lambda: [f(1, "a", z=1, b=2), f()]) == ["f(1, 'a', b=2, z=1)", "f()"]


def test_k11_a_template_that_names_an_unknown_argument_is_an_error_at_decoration() -> None:
    with pytest.raises(
        ValueError, match=r"'user:\{id\}' names id, which fetch_user\(uid, lang\) does not take"
    ) as caught:

        @step.cached("user:{id}")
        def fetch_user(uid: int, lang: str = "en") -> int:
            return uid

    assert 'write for example "user:{uid}:{lang}"' in str(caught.value)


@pytest.mark.parametrize("template", ["user:{}", "user:{0}", "user:{", "user:{uid!x}", ""])
def test_k11_what_is_no_template_is_an_error_at_decoration(template: str) -> None:
    with pytest.raises(ValueError, match=r"@step\.cached"):
        step.cached(template)(lambda uid: uid)


def test_k11_parts_and_formats_of_arguments() -> None:
    class User:
        id = 7

    @step.cached("page:{page:03d}:{user.id}:{opts[lang]}")
    def fetch(page: int, user: Any, opts: Any) -> int:
        return page

    assert keys_of(lambda: fetch(5, User(), {"lang": "de"})) == ["page:005:7:de"]


def test_k11_an_argument_without_a_stable_text_is_a_clear_error() -> None:
    @step.cached("user:{client}")
    def fetch(client: Any) -> int:
        return 1

    with pytest.raises(TypeError, match=r"user:\{client\}.*object.*what identifies it"):
        keys_of(lambda: fetch(object()))


def test_k11_a_template_that_names_no_argument_is_called_out_once_a_run() -> None:
    @step.cached("users")
    def fetch_users(page: int = 1) -> int:
        return page

    @step.cached("config")
    def load_config() -> int:
        return 1

    told = RecordingListener()
    create_workflow(cache={}, on_event=told)(lambda _: [fetch_users(), fetch_users(), load_config()])
    (finding,) = told.of(Finding)
    assert (
        finding.text
        == 'users: fetch_users(page) keeps one result for all its arguments; write @step.cached("users:{page}")'
    )


def test_k11_two_calls_of_other_arguments_under_one_key_raise() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int, lang: str = "en") -> int:
        return uid

    with pytest.raises(KeyCollision, match=r"lang = 'en'(.|\n)*lang = 'de'") as caught:
        keys_of(lambda: [fetch_user(1), fetch_user(1, lang="de")])
    assert str(caught.value).endswith('Put what tells them apart into the template: @step.cached("user:{uid}:{lang}")')


def test_k11_it_is_one_step_with_the_same_call_written_out() -> None:
    def plain(uid: int) -> int:
        ran.append(uid)
        return uid

    fetch_user = step.cached("user:{uid}")(plain)
    assert create_workflow(cache={})(lambda s: [fetch_user(1), s(lambda: plain(1), key="user:1")]) == Ok([1, 1])
    assert ran == [1]


def test_k11_async_functions_give_something_to_await() -> None:
    @step.cached("user:{uid}")
    async def fetch_user(uid: int) -> int:
        ran.append(uid)
        return uid

    async def body(_: Any) -> list[int]:
        return [
            await fetch_user(1),
            *await asyncio.gather(fetch_user(1), fetch_user(2)),
            await asyncio.create_task(fetch_user(2)),
        ]

    workflow = create_workflow(cache={})
    assert asyncio.run(workflow(body)) == Ok([1, 1, 2, 2])
    assert asyncio.run(workflow(body)) == Ok([1, 1, 2, 2])
    assert sorted(ran) == [1, 2]
    assert asyncio.iscoroutinefunction(fetch_user) or inspect.iscoroutinefunction(fetch_user)


def test_k11_an_async_function_inside_a_step_is_known_to_be_one() -> None:
    @step.cached("user:{uid}")
    async def fetch_user(uid: int) -> int:
        return uid

    async def body(step: Any) -> int:
        return await step(lambda: fetch_user(1), key="outer", timeout=30)

    assert asyncio.run(create_workflow(cache={})(body)) == Ok(1)


def test_k11_over_an_async_store_a_plain_function_is_awaited() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int) -> int:
        return uid

    async def body(_: Any) -> int:
        return await fetch_user(1)  # type: ignore[misc]

    assert asyncio.run(create_workflow(cache=AsyncMemoryStore())(body)) == Ok(1)


def test_k11_the_function_keeps_its_name_signature_and_docstring() -> None:
    def fetch_user(uid: int, *, lang: str = "en") -> int:
        """Fetches."""
        return uid

    cached = step.cached("user:{uid}")(fetch_user)
    assert (cached.__name__, cached.__doc__, cached.__wrapped__) == ("fetch_user", "Fetches.", fetch_user)
    assert inspect.signature(cached) == inspect.signature(fetch_user)


def test_k11_wrong_arguments_are_python_s_own_complaint() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int) -> int:
        return uid

    for call in (lambda: fetch_user(), lambda: fetch_user(1, 2), lambda: fetch_user(1, x=2)):
        with pytest.raises(TypeError, match=r"fetch_user\(\) "):
            keys_of(call)


def test_k11_refresh_and_ttl_apply() -> None:
    @step.cached("r", refresh=True)
    def again() -> None:
        ran.append("refresh")

    @step.cached("t", ttl=0)
    def old() -> None:
        ran.append("ttl")

    workflow = create_workflow(cache={})
    for _ in range(2):
        workflow(lambda _: [again(), old()])
    assert sorted(ran) == ["refresh", "refresh", "ttl", "ttl"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tttl": 1}, "did you mean ttl="), ({"cache": {}}, "belongs to create_workflow"), ({"ttl": "soon"}, "ttl="),
        ({"key": "user:{uid}"}, r"@step\.cached\('user:\{uid\}'\)"), ({"n_jobs": 2}, r"belongs to step\.map"),
    ],
)  # fmt: skip
def test_k11_w2_wrong_options_are_errors_at_decoration(options: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        step.cached("k:{uid}", **options)(lambda uid: uid)


def _generator(n: int) -> Any:
    yield n


async def _async_generator(n: int) -> Any:
    yield n


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (_generator, "generator"), (_async_generator, "generator"), (5, "takes a function"),
        (staticmethod(lambda n: n), "@staticmethod above"), (classmethod(lambda cls, n: n), "@classmethod above"),
        (property(lambda self: 1), "property"), (dict, "takes a function"),
    ],
)  # fmt: skip
def test_k11_what_is_no_function_is_refused(what: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        step.cached("k")(what)


def test_k11_methods_take_a_template_that_may_name_the_object() -> None:
    class Api:
        def __init__(self, base: str) -> None:
            self.base = base

        @step.cached("{self.base}:user:{uid}")
        def user(self, uid: int) -> str:
            ran.append(uid)
            return f"{self.base}/{uid}"

        @classmethod
        @step.cached("kinds:{n}")
        def kinds(cls, n: int) -> str:
            return f"{cls.__name__}{n}"

        @staticmethod
        @step.cached
        def plain(n: int) -> int:
            return n

    workflow = create_workflow(cache={})
    assert workflow(lambda _: [Api("a").user(1), Api("b").user(1), Api("a").user(1), Api.kinds(2), Api.plain(3)]) == Ok(
        ["a/1", "b/1", "a/1", "Api2", 3]
    )
    assert ran == [1, 1]


def test_k11_bare_on_a_method_is_refused_with_the_template_to_write() -> None:
    with pytest.raises(TypeError, match=r'user is a method.*@step\.cached\("user:\{uid\}"\)'):

        class Api:
            @step.cached
            def user(self, uid: int) -> int:
                return uid


def test_k11_outside_of_runs_it_uses_the_project_cache(nbstep_cache: Cache) -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int) -> int:
        ran.append(uid)
        return uid

    assert [fetch_user(1), fetch_user(1), ran] == [1, 1, [1]]
    assert nbstep_cache.has("user:1")


def test_k11_the_place_is_that_of_the_call() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int) -> int:
        return uid

    told = RecordingListener()

    def body(_: Any) -> None:
        fetch_user(1)

    create_workflow(cache={}, on_event=told)(body)
    (asked,) = told.of(StepAsked)
    assert (asked.place.notebook, asked.place.line) == (Path(__file__).name, body.__code__.co_firstlineno + 1)


def test_k11_where_a_library_calls_it_the_place_is_the_users_line() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int) -> int:
        return uid

    told = RecordingListener()

    def body(step: Any) -> None:
        pandas.Series([1]).map(fetch_user)
        step.map(fetch_user, [2], key="n:{}", n_jobs=1)
        step.map(fetch_user, [3, 4], key="n:{}", n_jobs=2)
        step(fetch_user, 5, key="five")

    create_workflow(cache={}, on_event=told)(body).unwrap()
    first = body.__code__.co_firstlineno
    lines = {one.key: one.place.line - first for one in told.of(StepAsked) if (one.key or "").startswith("user:")}
    assert lines == {"user:1": 1, "user:2": 2, "user:3": 3, "user:4": 3, "user:5": 4}
    assert {one.place.notebook for one in told.of(StepAsked)} == {Path(__file__).name}


def test_k11_in_a_module_that_is_imported(tmp_path: Path) -> None:
    (tmp_path / "etl_cached.py").write_text(
        'from nbstep import step\n\n@step.cached("user:{uid}")\ndef fetch_user(uid):\n    return uid\n'
    )
    spec = importlib.util.spec_from_file_location("etl_cached", tmp_path / "etl_cached.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert keys_of(lambda: module.fetch_user(1)) == ["user:1"]


def test_k11_a_cached_function_may_be_the_thunk_of_another_step() -> None:
    @step.cached("user:{uid}")
    def fetch_user(uid: int) -> int:
        return uid

    assert keys_of(lambda: step(fetch_user, 1, key="outer")) == ["user:1", "outer"]


def test_k11_an_edit_of_the_function_is_drift() -> None:
    def version(text: str) -> Any:
        scope: dict[str, Any] = {"__name__": "__main__", "step": step}
        exec(f"@step.cached('k')\ndef f():\n    return {text}\n", scope)
        return scope["f"]

    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    assert [workflow(lambda _: version("1")()), workflow(lambda _: version("2")())] == [Ok(1), Ok(1)]
    assert [hit.drift for hit in told.events if hasattr(hit, "drift")] == ["the step was edited"]
