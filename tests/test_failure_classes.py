"""Kept errors come back as themselves, whatever their class is like (E4): odd classes first, then those of real libraries."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
import subprocess
import sys
import urllib.error
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
import httpx
import nbclient.exceptions
import pandas as pd
import pydantic
import pytest
import requests

from nbstep import step
from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Kept
from nbstep.result import Err
from nbstep.stores.base import run_now


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int
    args2: tuple[int, ...] = ()


@dataclass(frozen=True)
class FrozenWithArgs(Exception):
    args: tuple[Any, ...]


@dataclass
class Unhashable(Exception):
    rows: list[int]


class PrivateSlots(Exception):
    __slots__ = ("__hidden", "code")

    def __init__(self, code: int) -> None:
        super().__init__("private")
        self.code, self.__hidden = code, code * 2

    def __str__(self) -> str:
        return f"{self.code} {self.__hidden}"


class RefusesToBeSet(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.__dict__["code"] = code

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(f"{name} is fixed")


class RefusesToBeAsked(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Hidden(Exception):
    """A property stands before the attribute of its name."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.__dict__["code"] = code

    @property
    def code(self) -> int:
        return self.__dict__["code"] + 1

    @property
    def response(self) -> Any:
        raise RuntimeError("not read yet")


def make_from_factory(code: int) -> Factory:
    return Factory(code=code)


class Factory(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("made")
        self.code = code

    def __reduce__(self) -> Any:
        return make_from_factory, (self.code,)


class BadReduce(Exception):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot be pickled")


class NotComparable(Exception):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")


class NoTruth(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class NewWithArguments(Exception):
    def __new__(cls, code: int, *, where: str) -> NewWithArguments:
        self = super().__new__(cls, code)
        self.where = where
        return self

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"{code} at {where}")


class OwnOSError(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(2, "none there", name)
        self.extra = name


class Both(KeyError, AttributeError):
    pass


class ReprRaises(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@attrs.define(auto_exc=True)
class Attrs(Exception):
    code: int
    detail: str = "d"


@attrs.frozen(auto_exc=True)
class AttrsFrozen(Exception):
    code: int


class WithModel(Exception):
    class Model(pydantic.BaseModel):
        code: int

    def __init__(self, model: Any) -> None:
        super().__init__("invalid")
        self.model = model


ODD: list[Callable[[], Exception]] = [
    lambda: Frozen(1, "two"),
    lambda: FrozenSlots(1, (2, 3)),
    lambda: FrozenWithArgs((1, 2)),
    lambda: Unhashable([1]),
    lambda: PrivateSlots(3),
    lambda: RefusesToBeSet(4),
    lambda: RefusesToBeAsked(5),
    lambda: Hidden(7),
    lambda: Factory(code=8),
    lambda: BadReduce(9),
    lambda: NotComparable(10),
    lambda: NoTruth(11),
    lambda: NewWithArguments(12, where="here"),
    lambda: OwnOSError("file"),
    lambda: Both("key"),
    lambda: ReprRaises(13),
    lambda: Attrs(14),
    lambda: AttrsFrozen(15),
    lambda: WithModel(WithModel.Model(code=16)),
]


def raised(thunk: Callable[[], Any]) -> Exception:
    try:
        thunk()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def get(address: str) -> Any:
    async def ask() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.get(address):
            pass

    return raised(lambda: asyncio.run(ask()))


class Person(pydantic.BaseModel):
    name: str
    age: int


def wrong_zip() -> None:
    zipfile.ZipFile(io.BytesIO(b"no zip"))


def query(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(text)
    finally:
        connection.close()


REAL: list[Callable[[], Exception]] = [
    lambda: raised(lambda: httpx.get("http://127.0.0.1:9/")),
    lambda: raised(lambda: httpx.get("nonsense://x/")),
    lambda: raised(lambda: httpx.URL("http://x:port/")),
    lambda: httpx.TooManyRedirects("too many", request=httpx.Request("GET", "http://x/")),
    lambda: httpx.StreamConsumed(),
    lambda: raised(lambda: requests.get("http://127.0.0.1:9/")),
    lambda: raised(lambda: requests.get("nonsense")),
    lambda: get("http://127.0.0.1:9/"),
    lambda: get("nonsense"),
    lambda: urllib.error.URLError("no host"),
    lambda: urllib.error.ContentTooShortError("short", (b"x", None)),  # type: ignore[arg-type]
    lambda: raised(lambda: Person(name="Ada", age="old")),  # type: ignore[arg-type]
    lambda: raised(lambda: Person.model_validate_json("{")),
    lambda: raised(lambda: pd.DataFrame({"a": [1]}).loc[5]),
    lambda: raised(lambda: pd.DataFrame({"a": [1]}).merge(pd.DataFrame({"b": [1]}))),
    lambda: raised(lambda: pd.read_csv(io.StringIO("a,b\n1,2\n1,2,3"))),
    lambda: raised(lambda: pd.Timestamp("2024-13-45")),
    lambda: raised(lambda: query("SELECT * FROM none")),
    lambda: raised(lambda: query("SELEKT")),
    lambda: raised(lambda: json.loads('{"a": }')),
    lambda: raised(lambda: subprocess.run([sys.executable, "-c", "1/0"], check=True, capture_output=True)),
    lambda: subprocess.TimeoutExpired(["x"], 1.5, output=b"part"),
    lambda: raised(wrong_zip),
    lambda: raised(lambda: Path("/no/such/file").read_text()),
    lambda: raised(lambda: Path("/").read_text()),
    lambda: BlockingIOError(11, "again", 5),
    lambda: OSError(1, "a", "b", None, "c"),
    lambda: raised(lambda: b"\xffabc".decode("utf-8")),
    lambda: raised(lambda: "é".encode("ascii")),
    lambda: UnicodeTranslateError("abc", 1, 2, "why"),
    lambda: raised(lambda: compile("(", "cell", "exec")),
    lambda: raised(lambda: (lambda: None)(1)),  # type: ignore[call-arg]
    lambda: raised(lambda: object().missing),  # type: ignore[attr-defined]
    lambda: raised(lambda: __import__("no_such_module_at_all")),
    lambda: nbclient.exceptions.CellExecutionError("traceback", "ValueError", "bad value"),
    lambda: nbclient.exceptions.DeadKernelError("died"),
    lambda: asyncio.IncompleteReadError(b"part", 10),
    lambda: asyncio.LimitOverrunError("too much", 3),
    lambda: TimeoutError("slow"),
    lambda: ExceptionGroup("outer", [ValueError(1), ExceptionGroup("inner", [KeyError("k"), Frozen(2)])]),
]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def kept_and_back(cache: Cache, error: Exception) -> Any:
    kept = run_now(cache.keep("key", Err(error), Facts(took_s=0.1)))
    assert isinstance(kept, Kept), kept
    return run_now(cache.look_up("key")).load().error  # type: ignore[union-attr]


def own(error: BaseException, name: str) -> Any:
    return object.__getattribute__(error, name)


def with_chain(error: Exception) -> Exception:
    """The error with a note, a cause and a context, set past its class."""
    own(error, "__dict__")["__notes__"] = ["a note"]
    vars(BaseException)["__cause__"].__set__(error, KeyError("cause"))
    vars(BaseException)["__context__"].__set__(error, OSError(2, "context"))
    return error


@pytest.mark.parametrize("make", ODD + REAL)
def test_e4_an_error_of_any_class_comes_back_as_itself(cache: Cache, make: Callable[[], Exception]) -> None:
    error = with_chain(make())
    back = kept_and_back(cache, error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert repr(own(back, "args")) == repr(own(error, "args"))
    assert own(back, "__dict__")["__notes__"] == ["a note"]
    assert repr(own(back, "__cause__")) == "KeyError('cause')"
    assert str(own(back, "__context__")) == "[Errno 2] context"
    assert own(back, "__suppress_context__") is True
    with pytest.raises(type(error)):
        raise back


@pytest.mark.parametrize("make", ODD)
def test_e4_an_error_of_an_odd_class_is_raised_again_by_its_step(make: Callable[[], Exception]) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise make()

    for _ in range(2):
        with pytest.raises(type(make())):
            step(fail, key="odd")
    assert calls == [1]


def test_e4_fields_of_frozen_and_slotted_classes_come_back(cache: Cache) -> None:
    assert kept_and_back(cache, Frozen(1, "two")) == Frozen(1, "two")
    assert kept_and_back(cache, FrozenSlots(1, (2, 3))) == FrozenSlots(1, (2, 3))
    assert kept_and_back(cache, Attrs(14)).detail == "d"
    assert kept_and_back(cache, AttrsFrozen(15)).code == 15
    assert kept_and_back(cache, Hidden(7)).code == 8
    assert kept_and_back(cache, NewWithArguments(12, where="here")).where == "here"
    assert kept_and_back(cache, OwnOSError("file")).filename == "file"
    assert kept_and_back(cache, WithModel(WithModel.Model(code=16))).model == WithModel.Model(code=16)


def test_e4_validation_errors_keep_their_list_of_errors(cache: Cache) -> None:
    error: Any = raised(lambda: Person(name="Ada", age="old"))  # type: ignore[arg-type]
    back = kept_and_back(cache, error)
    assert back.errors() == error.errors()


def test_e4_output_of_a_command_keeps_all_but_its_secrets(cache: Cache) -> None:
    code = "import sys; print('password=hunter2', 'line 2'); sys.exit(3)"
    error: Any = raised(
        lambda: subprocess.run([sys.executable, "-c", code, "--token", "abc"], check=True, capture_output=True)
    )
    back = kept_and_back(cache, error)
    assert (back.returncode, back.output) == (3, b"password=<redacted> line 2\n")
    assert back.cmd[:2] + back.cmd[3:] == [sys.executable, "-c", "--token", "<redacted>"]


def test_e4_a_long_text_that_cannot_be_decoded_keeps_its_message(cache: Cache) -> None:
    error = raised(lambda: (b"password=hunter2 " + b"x" * 200_000 + b"\xff" + b"x" * 200_000).decode())
    back = kept_and_back(cache, error)
    assert str(back) == str(error)


def test_e4_the_url_of_a_request_loses_its_secrets_in_every_text(cache: Cache) -> None:
    url = "http://127.0.0.1:9/x?api_key=query-word&code=DE&sig=abc%2Fdef"
    for fetch in (httpx.get, requests.get):
        back = kept_and_back(cache, raised(lambda: fetch(url)))
        texts = [str(back), repr(back), str(back.request.url), repr(back.request)]
        assert not [text for text in texts if "query-word" in text or "abc%2Fdef" in text]
        assert "code=DE" in str(back.request.url)
    assert cache.directory is not None
    assert not [path for path in cache.directory.rglob("*") if path.is_file() and b"query-word" in path.read_bytes()]


def test_e4_the_users_redaction_takes_every_text_of_an_error(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", redact=lambda text: text.replace("Ada Lovelace", "<name>"))
    error = ValueError("no Ada Lovelace", {"who": ["Ada Lovelace"]})
    error.who = b"Ada Lovelace"  # type: ignore[attr-defined]
    error.add_note("Ada Lovelace")
    back = kept_and_back(cache, error)
    assert back.args == ("no <name>", {"who": ["<name>"]})
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and b"Lovelace" in path.read_bytes()]
