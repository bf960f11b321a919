"""`Cache.verify()` and `nbstep verify`: every byte read, each bad entry named, nothing unpickled, nothing changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbstep.cache import trust
from nbstep.cache.cache import Cache
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.stores.files import key_digest


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / ".nbstep")
    for key in ("user:1", "user:2", "user:3"):
        made.set(key, {"path": Path(key)})
    made.set("frame", np.arange(50_000))
    return made


def file_of(cache: Cache, key: str) -> Path:
    assert cache.directory is not None
    (path,) = (cache.directory / "v1" / "e" / key_digest(key)[:2]).glob(f"{key_digest(key)}.*")
    return path


def spoil(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def sign_as_another(cache: Cache, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as then:
        then.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "them")}))
        Cache(cache.directory).set(key, 1)


def test_a_good_cache_verifies_and_nothing_is_unpickled_or_changed(cache: Cache, unpickled: list[Any]) -> None:
    assert cache.directory is not None
    before = {path: path.stat().st_mtime_ns for path in cache.directory.rglob("*")}
    found = cache.verify()
    assert (found.checked, found.bad, found.bits) == (4, (), 0)
    assert found.size_bytes == sum(meta.size_bytes for meta in cache.entries())
    assert unpickled == []
    assert {path: path.stat().st_mtime_ns for path in cache.directory.rglob("*")} == before
    assert run_command("verify", cache=cache).text.startswith("4 entries read, ")


@pytest.mark.parametrize("at", [0, 9, 60, -40, -1])
def test_one_flipped_bit_anywhere_is_corrupt(cache: Cache, at: int, unpickled: list[Any]) -> None:
    spoil(file_of(cache, "user:1"), at)
    found = cache.verify()
    assert [one.verdict for one in found.bad] == ["corrupt"]
    assert (found.bits, found.count("good"), unpickled) == (1, 3, [])


def test_t5_an_entry_in_the_place_of_another_is_corrupt(cache: Cache) -> None:
    file_of(cache, "user:1").write_bytes(file_of(cache, "user:2").read_bytes())
    (bad,) = cache.verify().bad
    assert (bad.verdict, "another key, 'user:2'" in bad.why) == ("corrupt", True)


def test_bits_add_up_and_every_bad_entry_has_a_line_that_says_what_to_do(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(file_of(cache, "frame"), -1)
    file_of(cache, "user:2").write_bytes(b"NBSTEP9\n and more")
    sign_as_another(cache, "theirs", monkeypatch, tmp_path)
    outcome = run_command("verify", cache=cache)
    head, corrupt, *rest = outcome.text.splitlines()
    assert head.endswith(": 2 good, 1 corrupt, 1 untrusted, 1 unreadable")
    assert corrupt.startswith("  ! unreadable")
    assert "another version of nbstep wrote it" in corrupt
    assert "; or delete " in corrupt
    assert rest[0].startswith("  ✕ corrupt     frame          its content does not match its digest")
    assert rest[0].endswith("Its step runs again; delete it now: nbstep rm frame")
    assert rest[1].startswith("  ? untrusted   1 signed by key ")
    assert rest[2] == "    Accept: nbstep trust   Delete what others signed: nbstep rm --untrusted"
    assert (outcome.exit_code, outcome.wrong_usage) == (1 | 2 | 4, False)


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_what_is_no_regular_file_is_unreadable(cache: Cache, tmp_path: Path) -> None:
    path = file_of(cache, "user:1")
    path.rename(tmp_path / "victim")
    path.symlink_to(tmp_path / "victim")
    found = cache.verify()
    assert ([one.verdict for one in found.bad], found.bits) == (["unreadable"], 4)
    assert "is a link" in found.bad[0].why


def test_a_glob_reads_only_what_it_names(cache: Cache) -> None:
    spoil(file_of(cache, "frame"), -1)
    spoil(file_of(cache, "user:1"), 0)
    assert (cache.verify("user:*").checked, cache.verify("user:*").bits) == (2, 0)
    assert cache.verify("user:1").bits == 1  # its header is gone, its place is known
    assert run_command("verify frame", cache=cache).exit_code == 1
    assert run_command("verify nothing", cache=cache).text == "Nothing is kept under nothing."


def test_a_users_own_values_beside_the_entries_are_none_of_ours() -> None:
    shared: dict[str, Any] = {"mine": 5, "raw": b"bytes of mine", "text": "ü"}
    cache = Cache(shared)
    cache.set("k", 1)
    found = cache.verify()
    assert (found.checked, found.bits) == (1, 0)
    shared["k"] = shared["k"][:-1]
    assert cache.verify().bits == 1
    assert "Its step runs again" in run_command("verify", cache=cache).text


def test_n7_a_bad_entry_s_key_is_escaped_and_the_command_named_works(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sign_as_another(cache, "k\x1b[2J\u202e\n", monkeypatch, tmp_path)
    text = run_command("verify k*", cache=cache).text
    assert text.replace("\n", "").isprintable()
    command = text.partition("Accept: nbstep ")[2].partition("   Delete")[0]
    assert run_command(f"{command} -y", cache=cache).exit_code == 0
    assert "k\x1b[2J\u202e\n" in cache


def test_n6_a_foreign_cache_has_a_line_a_signer_and_one_command(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for n in range(37):
        sign_as_another(cache, f"page:{n}", monkeypatch, tmp_path)
    head, signed, ways = run_command("verify", cache=cache).text.splitlines()
    assert head.endswith(": 4 good, 37 untrusted")
    assert signed.startswith("  ? untrusted   37 signed by key ")
    assert signed.endswith(": page:0, page:1, page:2, page:3, page:4 and 32 more")
    assert ways == "    Accept: nbstep trust   Delete what others signed: nbstep rm --untrusted"
    for n in range(7):
        cache.set(f"page:{n}", "mine")
    ways = run_command("verify", cache=cache).text.splitlines()[-1]
    assert ways.startswith("    Accept: nbstep trust (but 7: good entries of your own have their keys)   Delete ")
    ways = run_command("verify page:3", cache=cache).text.splitlines()[-1]
    assert ways == (
        "    Good entries of your own have these keys. Delete what others signed: nbstep rm --untrusted page:3"
    )
    there = str(cache.directory)
    ways = run_command(["verify", "--cache", there]).text.splitlines()[-1]
    assert ways.endswith(f"nbstep rm --untrusted --cache {there}")


def test_long_work_tells_how_far_it_is(cache: Cache) -> None:
    told: list[tuple[str, int, int]] = []
    run_command("verify", cache=cache, screen=Screen(tell=lambda work, done, total: told.append((work, done, total))))
    assert {work for work, _, _ in told} == {"reading"}
    assert told[0][1] == 0
    assert told[-1][1] == told[-1][2] == cache.verify().size_bytes


def test_verify_over_an_async_store(tmp_path: Path) -> None:
    import asyncio

    from nbstep.testing import AsyncMemoryStore

    cache = Cache(AsyncMemoryStore())

    async def fill_and_verify() -> int:
        await cache.set("k", 1)
        return (await cache.verify()).checked

    assert asyncio.run(fill_and_verify()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a pseudo-terminal")
def test_the_shell_exits_with_the_bits_and_prints_to_stdout(cache: Cache, tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "nbstep.cli", "verify", "--cache", str(cache.directory)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    them = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "them")}
    done = subprocess.run(command, capture_output=True, check=False, env=them)
    assert (done.returncode, done.stderr) == (2, b"")
    assert b"4 untrusted" in done.stdout
