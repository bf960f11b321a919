"""Entries that somebody else signed: the reason stands at each row, the line that explains it comes once a session (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernels import open_kernel
from shells import open_shell

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.events import StepMissed
from nbstep.testing import RecordingListener

LINE = "signed by key "


@pytest.fixture
def sign_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any, str], None]:
    """Keeps 1 under a key of a cache, as somebody else would."""

    def keep(who: str, where: Any, key: str) -> None:
        with monkeypatch.context() as them:
            them.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / who)}))
            Cache(where).set(key, 1)

    return keep


@pytest.mark.kernel
def test_trust_a_stranger_is_named_once_a_session_in_cells_and_in_a_new_kernel_again(
    sign_as: Callable[[str, Any, str], None],
) -> None:
    cache = os.environ["NBSTEP_DIR"]
    for key in ("a", "b", "c"):
        sign_as("them", cache, key)
    sign_as("others", cache, "d")
    asks = "%%workflow\n[step(lambda: 2, key=key) for key in {}]".format

    def lines(kernel: Any, keys: str) -> tuple[int, int]:
        """How often the line stands in the finished list, and how many rows say it themselves, on hover."""
        (shown, *_) = [str(part) for part in kernel.good(asks(keys)).of("update_display_data", "display_data")][-1:]
        html = shown.partition("text/plain")[0]
        rows = html.count("its entry was signed by somebody else")
        return html.count(LINE) - rows, rows

    with open_kernel() as kernel:
        assert lines(kernel, '["a", "b"]') == (1, 2)
        assert lines(kernel, '["c"]') == (0, 1)
        assert lines(kernel, '["d"]') == (1, 1)
    Cache(cache).clear()
    sign_as("them", cache, "a")
    with open_kernel() as kernel:
        assert lines(kernel, '["a"]') == (1, 1)


def test_trust_once_a_session_for_cells_workflows_and_plain_calls_together(
    tmp_path: Path, sign_as: Callable[[str, Any, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(os.environ["NBSTEP_DIR"])
    for key in ("a", "b", "c", "d"):
        sign_as("them", cache.directory, key)
    with open_shell(tmp_path) as shell:
        assert LINE in shell.good("%%workflow\nstep(lambda: 2, key='a')").text
        assert LINE not in shell.good("%%workflow\nstep(lambda: 2, key='b')").text
        assert LINE not in shell.good("from nbstep import Cache; Cache().get('c')").text
    with caplog.at_level(logging.WARNING, "nbstep"):
        create_workflow(cache=cache)(lambda step: step(lambda: 2, key="c"))
        assert cache.get("d", "nothing") == "nothing"
    assert caplog.messages == []


@pytest.mark.parametrize("where", ["disk", "dict"])
def test_trust_each_cache_and_each_signer_has_its_line(
    tmp_path: Path, where: str, sign_as: Callable[[str, Any, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    places: list[Any] = [{}, {}] if where == "dict" else [tmp_path / "one", tmp_path / "two"]
    for place in places:
        for key in ("a", "b", "c"):
            sign_as("them", place, key)
    with caplog.at_level(logging.WARNING, "nbstep"):
        for place in places:
            assert Cache(place).get("a") is None
            assert Cache(place).get("b") is None
            listener = RecordingListener()
            create_workflow(cache=place, on_event=listener)(lambda step: step(lambda: 2, key="c"))
            assert [event.reason for event in listener.of(StepMissed)] == ["untrusted"]
            assert listener.findings() == []
        assert [LINE in message for message in caplog.messages] == [True, True]
        sign_as("others", places[0], "d")
        assert Cache(places[0]).get("d") is None
    assert len(set(caplog.messages)) == 2
    assert len(caplog.messages) == 3


def test_trust_the_line_is_short_and_says_what_why_and_both_ways_out(
    tmp_path: Path, sign_as: Callable[[str, Any, str], None]
) -> None:
    sign_as("them", tmp_path / "c", "a")
    cache = Cache(tmp_path / "c")
    (signer,) = [meta.signer for meta in cache.entries()]
    listener = RecordingListener()
    create_workflow(cache=cache, on_event=listener)(lambda step: step(lambda: 2, key="a"))
    (line,) = listener.findings()
    assert line == (
        f"signed by key {signer}, not yours, so not used: accept it with nbstep trust --cache {tmp_path / 'c'}, "
        "or let NBSTEP_SIGNING_KEY_FILE name the file of that key"
    )
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert "Run `nbstep trust` **before** you run a colleague's notebook" in readme


def test_trust_a_kernel_whose_key_was_replaced_says_that_it_must_be_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nbstep trust --rotate` in a shell: the entries are not a stranger's, and to accept them would be no way out."""
    environ = {"JUPYTER_DATA_DIR": str(tmp_path / "data")}
    monkeypatch.setattr(trust, "_ring", trust.KeyRing(environ))
    cache, listener = Cache(tmp_path / "c"), RecordingListener()
    cache.set("b", 1)
    with monkeypatch.context() as shell:
        shell.setattr(trust, "_ring", trust.KeyRing(environ))
        new = trust.key_ring().rotate().new.id
        Cache(tmp_path / "c").set("a", 1)
    workflow = create_workflow(cache=cache, on_event=listener)
    workflow(lambda step: (step(lambda: 2, key="a"), step(lambda: 2, key="b")))
    assert listener.findings() == [
        f"signed by key {new}, which is yours now: restart this kernel, it goes on with the key it began with"
    ]
    assert [event.reason for event in listener.of(StepMissed)] == ["untrusted"]


def test_trust_async_steps_tell_it_once_too(tmp_path: Path, sign_as: Callable[[str, Any, str], None]) -> None:
    for key in ("a", "b"):
        sign_as("them", tmp_path / "c", key)
    listener = RecordingListener()
    workflow = create_workflow(cache=tmp_path / "c", on_event=listener)

    async def fetch() -> int:
        return 2

    async def body(step: Any) -> list[int]:
        return await asyncio.gather(*[step(fetch, key=key) for key in ("a", "b")])

    assert asyncio.run(workflow(body)).unwrap() == [2, 2]
    assert [LINE in text for text in listener.findings()] == [True]


def test_trust_a_crowd_of_signers_does_not_fill_the_screen(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.set("k0", 1)
    (path,) = (tmp_path / "c" / "v1" / "e").glob("*/*")
    content = path.read_bytes()
    for number in range(50):
        cache.delete("k0")
        path.with_name(f"{path.name[:64]}.{number:08x}").write_bytes(content)
        listener = RecordingListener()
        create_workflow(cache=cache, on_event=listener)(lambda step: step(lambda: 2, key="k0"))
        assert len(listener.findings()) == int(number < 20), number
