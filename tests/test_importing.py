"""`import-joblib`: what joblib.Memory kept is listed without loading it, and taken over by key (the reverse of `export`)."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from nbstep import create_workflow, step
from nbstep.cache.cache import Cache
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import CommandOutcome, run_command
from nbstep.integrations.reprs import ODD, plain_value
from nbstep.keys import scalar_text

ETL = """
import datetime

def fetch(uid, lang="de"):
    return {"uid": uid, "lang": lang}

def total(first, *rest, scale=1, **more):
    return first * scale + sum(rest) + sum(more.values())

def many(n):
    import numpy
    return numpy.arange(n)

def count(rows, n):
    return len(rows) + n

async def load(uid):
    return uid * 2

class Client:
    def __init__(self, host):
        self.host = host

    def get(self, page):
        return f"{self.host}/{page}"

    @staticmethod
    def ping(host):
        return host.upper()

def outer():
    def inner(n):
        return n
    return inner
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def etl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the user's own."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "etl.py").write_text(ETL)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "etl", raising=False)
    import etl  # pyright: ignore

    yield etl
    sys.modules.pop("etl", None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def memory(place: Path) -> joblib.Memory:
    return joblib.Memory(str(place), verbose=0)


def take(cache: Cache, place: Path, *words: str, width: int = 200) -> CommandOutcome:
    return run_command(["import-joblib", str(place), *words], cache=cache, screen=Screen(width=width))


def line(outcome: CommandOutcome, text: str) -> str:
    return next(one for one in outcome.text.splitlines() if text in one)


def result_folder(place: Path, function: str) -> Path:
    return next(path.parent for path in place.rglob("output.pkl") if path.parent.parent.name == function)


def test_import_joblib_lists_each_result_with_the_key_it_would_get(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.fetch)("1")
    memory.cache(etl.many)(5)
    listed = take(cache, place)
    assert listed.exit_code == 0
    assert listed.text.startswith(f"2 results of 2 functions in {place}, ")
    assert "function" in line(listed, "key it gets")
    row = line(listed, "etl.fetch")
    assert "uid='1', lang='de'" in row
    assert row.endswith("fetch(uid='1', lang='de')")
    assert "unsigned" in listed.text
    assert f"nbstep import-joblib {place} --all" in listed.text
    assert cache.keys() == []


def test_import_joblib_takes_over_what_is_selected_and_nothing_else(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    for uid in ("1", "2"):
        memory.cache(etl.fetch)(uid)
    memory.cache(etl.many)(5)
    assert take(cache, place, "fetch(uid='1', lang='de')").text.startswith("Took over 1 result: fetch(uid='1'")
    assert cache.keys() == ["fetch(uid='1', lang='de')"]
    done = take(cache, place, "fetch(*")
    assert "Took over 1 result" in done.text
    assert "fetch(uid='1', lang='de') was kept already and stays" in done.text
    assert "many(n=5)" not in cache
    assert take(cache, place, "--all").exit_code == 0
    assert cache.get("many(n=5)").tolist() == [0, 1, 2, 3, 4]
    assert line(take(cache, place), "etl.many").endswith("kept already")


def test_import_joblib_gives_the_keys_that_step_cached_asks(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    day = etl.datetime.date(2024, 1, 2)
    calls = [
        (etl.fetch, (1,), {}), (etl.fetch, ("1", "en"), {}), (etl.fetch, (None,), {"lang": 0.1 + 0.2}),
        (etl.fetch, ("x" * 100,), {}), (etl.fetch, (day,), {}), (etl.fetch, (np.int64(7),), {}), (etl.fetch, (True,), {}),
        (etl.fetch, (Path("a/b.csv"), b"\x00"), {}), (etl.fetch, (float("inf"), -1.5j), {}), (etl.fetch, (-0.0, "it's\n"), {}),
        (etl.total, (1, 2, 3), {"scale": 2, "zeta": 4, "alpha": 5}), (etl.total, (1,), {}),
    ]  # fmt: skip
    for function, args, options in calls:
        memory.cache(function)(*args, **options)
    assert take(cache, place, "--all").exit_code == 0
    ran: list[object] = []

    def watched(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            ran.append(args)
            return function(*args, **options)

        return wrapper

    def body(_: Any) -> list[Any]:
        # `step.cached` takes the name and the signature of what it stands on
        return [step.cached(watched(function))(*args, **options) for function, args, options in calls]

    values = create_workflow(cache=cache)(body).unwrap()
    assert ran == []
    assert values == [function(*args, **options) for function, args, options in calls]


def test_import_joblib_takes_methods_partials_lambdas_and_nested_functions(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.Client("a").get)(3)
    memory.cache(etl.Client.ping)("a")
    memory.cache(etl.outer())(4)
    memory.cache(functools.partial(etl.fetch, "9"))(lang="fr")
    memory.cache(lambda n: n + 1)(5)
    assert take(cache, place, "--all").exit_code == 0
    kept = {key: cache.get(key) for key in cache.keys()}  # noqa: SIM118 - a cache is no dict
    assert kept["Client.ping(host='a')"] == "A"
    assert kept["inner(n=4)"] == 4
    digests = {value if isinstance(value, int | str) else value["lang"]: key for key, value in kept.items()}
    assert digests["a/3"].startswith("Client.get(self=#")
    assert digests["a/3"].endswith(", page=3)")
    assert digests["fr"].startswith("unknown(#")
    assert digests[6].startswith("<lambda>(#")


def test_import_joblib_takes_functions_of_main_in_a_script(cache: Cache, place: Path, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import joblib, sys\n"
        "@joblib.Memory(sys.argv[1], verbose=0).cache\n"
        "def double(n): return n * 2\n"
        "double(4)\n"
    )  # fmt: skip
    subprocess.run([sys.executable, script, place], check=True)
    assert "job.double" in line(take(cache, place), "double(n=4)")
    take(cache, place, "--all")
    assert cache.get("double(n=4)") == 8


def test_import_joblib_keeps_age_time_and_source(cache: Cache, place: Path, memory: joblib.Memory, etl: Any) -> None:
    memory.cache(etl.fetch)("1")
    folder = result_folder(place, "fetch")
    (folder / "metadata.json").write_text(json.dumps({"duration": 62.0, "input_args": {"uid": "'1'", "lang": "'de'"}}))
    then = time.time() - 3 * 86_400
    os.utime(folder / "output.pkl", (then, then))
    assert "1 m 2 s" in line(take(cache, place), "etl.fetch")
    assert "3 d ago" in line(take(cache, place), "etl.fetch")
    take(cache, place, "--all")
    (meta,) = cache.entries()
    assert (meta.facts.took_s, meta.created) == (62.0, pytest.approx(then))
    assert meta.facts.source.startswith("def fetch(uid")


def test_import_joblib_keeps_an_async_function_as_one(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    import asyncio

    assert asyncio.run(memory.cache(etl.load)(3)) == 6
    take(cache, place, "--all")

    async def ask() -> Any:
        async def body(_: Any) -> Any:
            return await step(lambda: pytest.fail("it ran"), key="load(uid=3)")

        return await create_workflow(cache=cache)(body)

    assert asyncio.run(ask()).unwrap() == 6


@pytest.mark.parametrize("options", [{"compress": True}, {"compress": ("lzma", 3)}, {"mmap_mode": "r"}])
def test_import_joblib_takes_compressed_and_mapped_results(cache: Cache, place: Path, etl: Any, options: Any) -> None:
    joblib.Memory(place, verbose=0, **options).cache(etl.many)(200_000)
    assert take(cache, place, "--all").exit_code == 0
    value = cache.get("many(n=200000)")
    assert value.sum() == sum(range(200_000))
    value[0] = 7
    assert type(value) is np.ndarray


def test_import_joblib_runs_no_code_of_a_pickle_that_was_not_selected(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any, tmp_path: Path
) -> None:
    memory.cache(etl.fetch)("1")
    memory.cache(etl.many)(1)
    mark = tmp_path / "ran"
    joblib.dump(_Trap(str(mark)), result_folder(place, "many") / "output.pkl")
    take(cache, place)
    take(cache, place, "fetch(*")
    assert not mark.exists()
    take(cache, place, "many(*")
    assert mark.exists()  # so the trap works


class _Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_import_joblib_replaces_only_when_told_and_undo_brings_back(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.fetch)("1")
    memory.cache(etl.fetch)("2")
    for uid in ("1", "2"):
        cache.set(f"fetch(uid='{uid}', lang='de')", "mine")
    refused = take(cache, place, "--all")
    assert refused.exit_code == 1
    assert f"2 were kept already and stay. Replace: nbstep import-joblib {place} --all --replace" in refused.text
    assert cache.get("fetch(uid='1', lang='de')") == "mine"
    done = take(cache, place, "--all", "--replace")
    assert "2 of them replaced what was kept; bring that back: nbstep undo" in done.text
    assert cache.get("fetch(uid='1', lang='de')") == {"uid": "1", "lang": "de"}
    run_command("undo", cache=cache)
    assert cache.get("fetch(uid='1', lang='de')") == cache.get("fetch(uid='2', lang='de')") == "mine"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "output.pkl").unlink(), "there is no output.pkl"),
        (lambda folder: (folder / "output.pkl").write_bytes(b""), "output.pkl is empty"),
        (lambda folder: _replaced_by_folder(folder / "output.pkl"), "output.pkl is no regular file"),
        (lambda folder: _replaced_by_link(folder / "output.pkl"), "output.pkl is no regular file"),
    ],
)
def test_import_joblib_names_damaged_results_in_their_line(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any, spoil: Any, said: str
) -> None:
    memory.cache(etl.fetch)("1")
    memory.cache(etl.many)(1)
    spoil(result_folder(place, "fetch"))
    assert said in line(take(cache, place), "etl.fetch")
    done = take(cache, place, "--all")
    assert done.exit_code == 1
    assert f"✕ left out: fetch(uid='1', lang='de'): {said}" in done.text
    assert cache.keys() == ["many(n=1)"]


def _replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replaced_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "null", '{"duration": "x", "input_args": []}', '{"duration": NaN, "input_args": {"uid": 1}}',
        "[" * 100_000, '{"input_args": {"uid": "' + "-" * 60_000 + '1", "lang": "' + "(" * 60_000 + '"}}', "\x00\xff",
        '{"input_args": {"uid": "1", "lang": "2"}, "more": "' + "x" * 3_000_000 + '"}',
    ],
)  # fmt: skip
def test_import_joblib_reads_damaged_metadata_as_unknown(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any, text: str
) -> None:
    memory.cache(etl.fetch)("1")
    (result_folder(place, "fetch") / "metadata.json").write_bytes(text.encode("latin-1"))
    assert "fetch(" in line(take(cache, place), "etl.fetch")
    assert take(cache, place, "--all").exit_code == 0
    (key,) = cache.keys()
    assert "#" in key
    assert cache.get(key) == {"uid": "1", "lang": "de"}


def test_import_joblib_follows_no_links(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any, tmp_path: Path
) -> None:
    memory.cache(etl.fetch)("1")
    memory.cache(etl.many)(1)
    function = result_folder(place, "fetch").parent
    function.rename(tmp_path / "elsewhere")
    function.symlink_to(tmp_path / "elsewhere")
    (place / "joblib" / "loop").symlink_to(place)
    assert take(cache, place).text.startswith("1 result of 1 function in ")


def test_import_joblib_shows_metadata_escaped_and_short(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.fetch)("1")
    hostile = {"duration": 1, "input_args": {"uid": "\x1b[31m\n" + "x" * 500_000, "lang": "'<script>\u202e'"}}
    (result_folder(place, "fetch") / "metadata.json").write_text(json.dumps(hostile))
    listed = take(cache, place, width=120)
    assert "\x1b" not in listed.text
    assert "\u202e" not in listed.text
    assert max(map(len, listed.text.splitlines()[2:4])) <= 120
    odd = place / "joblib" / "e\x1b[2Jtl" / "f" / ("a" * 32)
    odd.mkdir(parents=True)
    assert take(cache, place).text.startswith("1 result ")  # a folder of that name alone is none
    (odd / "output.pkl").touch()
    assert "e\\x1b[2Jtl.f" in line(take(cache, place), "output.pkl is empty")


def test_import_joblib_keeps_functions_of_one_name_apart(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any, tmp_path: Path
) -> None:
    (tmp_path / "modules" / "etl_of_others.py").write_text(ETL.replace('"lang": lang', '"lang": 0'))
    importlib.invalidate_caches()  # the folder was listed in this very tick of its clock
    other = importlib.import_module("etl_of_others")
    memory.cache(etl.fetch)("1")
    memory.cache(other.fetch)("1")
    memory.cache(etl.many)(5)
    memory.cache(etl.many)(np.int64(5))
    take(cache, place, "--all")
    keys = sorted(cache.keys())
    assert keys[:2] == ["etl.fetch: fetch(uid='1', lang='de')", "etl_of_others.fetch: fetch(uid='1', lang='de')"]
    assert cache.get(keys[1]) == {"uid": "1", "lang": 0}
    assert keys[2] == "many(n=5)"
    assert keys[3].startswith("many(n=5) #")


def test_import_joblib_counts_odd_and_ignored_arguments_by_digest(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.count)([1], 2)
    memory.cache(etl.count)([1, 2], 2)
    memory.cache(etl.fetch, ignore=["lang"])("1", "en")
    take(cache, place, "--all")
    odd = [key for key in cache.keys() if key.startswith("count(rows=#")]  # noqa: SIM118
    assert sorted(cache.get(key) for key in odd) == [3, 4]
    assert all(key.endswith(", n=2)") for key in odd)
    assert "fetch(uid='1')" in cache


def test_import_joblib_says_what_it_looked_for(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "empty" / "joblib").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    assert take(cache, tmp_path / "none").text == f"There is no folder {tmp_path / 'none'}."
    assert "is no folder: name the one that joblib.Memory was given" in take(cache, tmp_path / "file").text
    empty = take(cache, tmp_path / "empty")
    assert empty.exit_code == 1
    assert "there is no MODULE/FUNCTION/DIGEST/output.pkl in it, nor in a folder joblib of it" in empty.text
    assert run_command("import-joblib", cache=cache).exit_code == 2
    assert take(cache, tmp_path, "--replace").exit_code == 2
    assert take(cache, tmp_path, "--all", "x").exit_code == 2


def test_import_joblib_takes_the_inner_folder_and_a_home_path_too(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, etl: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    joblib.Memory(str(tmp_path / "my store"), verbose=0).cache(etl.fetch)("1")
    assert "etl.fetch  uid='1', lang='de'" in take(cache, tmp_path / "my store" / "joblib").text
    listed = run_command(["import-joblib", "~/my store"], cache=cache, screen=Screen(notebook=True))
    assert "in ~/my store," in listed.text
    assert "%nbstep import-joblib '~/my store' --all" in listed.text
    assert run_command("import-joblib '~/my store' --all", cache=cache).exit_code == 0


def test_import_joblib_finds_what_was_kept_under_a_path_and_under_a_text(cache: Cache, place: Path, etl: Any) -> None:
    joblib.Memory(place, verbose=0).cache(etl.fetch)("1")  # joblib makes no folder `joblib` then
    joblib.Memory(str(place), verbose=0).cache(etl.many)(2)
    assert take(cache, place).text.startswith("2 results of 2 functions in ")
    take(cache, place, "--all")
    assert sorted(cache) == ["fetch(uid='1', lang='de')", "many(n=2)"]


def test_import_joblib_knows_a_call_without_its_functions_source_by_digest(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.fetch)("1")  # its order of arguments is in the source alone
    folder = result_folder(place, "fetch")
    (folder.parent / "func_code.py").write_text("# first line: 2\ndef fetch(")
    assert line(take(cache, place), "etl.fetch").endswith(f"fetch(#{folder.name[:16]})")


def test_import_joblib_says_where_a_class_of_main_is_missing(
    cache: Cache, place: Path, memory: joblib.Memory, etl: Any
) -> None:
    memory.cache(etl.fetch)("1")
    script = "import joblib, sys\nclass Gone: pass\njoblib.dump(Gone(), sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, result_folder(place, "fetch") / "output.pkl"], check=True)
    done = take(cache, place, "--all")
    assert done.exit_code == 1
    assert "AttributeError" in done.text
    assert "take it over in the notebook that defines it" in done.text


def test_import_joblib_in_a_shell_lists_without_a_cache_and_makes_one_to_take_over(
    place: Path, memory: joblib.Memory, etl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.cache(etl.fetch)("1")
    project = tmp_path / "project"
    project.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "NBSTEP_DIR"}

    def shell(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nbstep", "import-joblib", str(place), *words]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    listed = shell()
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "fetch(uid='1', lang='de')" in listed.stdout
    assert list(project.iterdir()) == []
    assert shell("--all").returncode == 0
    assert Cache(project / ".nbstep").get("fetch(uid='1', lang='de')") == {"uid": "1", "lang": "de"}


def test_import_joblib_tells_how_far_it_is(cache: Cache, place: Path, memory: joblib.Memory, etl: Any) -> None:
    for n in (10, 1000):
        memory.cache(etl.many)(n)
    told: list[tuple[str, int, int]] = []
    screen = Screen(tell=lambda *step: told.append(step))
    run_command(["import-joblib", str(place), "--all"], cache=cache, screen=screen)
    total = sum(path.stat().st_size for path in place.rglob("output.pkl"))
    assert [work for work, *_ in told] == ["loading", "loading"]
    assert told[-1][1:] == (total, total)
    assert 0 < told[0][1] < total


def test_import_joblib_works_over_an_async_store(place: Path, memory: joblib.Memory, etl: Any) -> None:
    class Store:
        def __init__(self) -> None:
            self.held: dict[str, Any] = {}

        async def get(self, key: str) -> Any:
            return self.held.get(key)

        async def set(self, key: str, value: Any) -> None:
            self.held[key] = value

        async def has(self, key: str) -> bool:
            return key in self.held

        async def delete(self, key: str) -> None:
            self.held.pop(key, None)

        async def keys(self) -> list[str]:
            return list(self.held)

    memory.cache(etl.fetch)("1")
    cache = Cache(Store())
    assert take(cache, place, "--all").exit_code == 0
    assert "kept already" in take(cache, place).text


@pytest.mark.parametrize(
    "value",
    [
        1,
        True,
        "1",
        "it's",
        b"x",
        1.5,
        -2,
        1 + 2j,
        -1.5j,
        None,
        float("inf"),
        Path("a"),
        np.float64(0.1),
        np.bool_(True),
    ],
)
def test_k11_a_plain_value_read_from_its_repr_has_the_same_text_in_a_key(value: object) -> None:
    assert scalar_text(plain_value(repr(value))) == scalar_text(value)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "object()", "__import__('os').getpid()", "open('x', 'w')", "datetime.date(1)", "'a' 'b' +", "(" * 9000,
     "-" * 60_000 + "1", "'" + "a" * 70_000 + "'", "datetime.date(*[1])", "np.int64(**{})", "Decimal('x')", "...", "1 if 1 else 2"],
)  # fmt: skip
def test_import_joblib_evaluates_nothing_of_a_repr(text: str) -> None:
    assert plain_value(text) is ODD
