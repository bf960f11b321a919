"""`nbstep settings`: each setting with its value and where it comes from (W2, N6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shells import Shell, open_shell

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.cli import main
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command


def told(cache: Cache | None = None) -> dict[str, tuple[Any, str]]:
    outcome = run_command("settings --json", cache=cache)
    assert outcome.exit_code == 0
    return {row["name"]: (row["value"], row["origin"]) for row in json.loads(outcome.text)}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        yield opened


def test_w2_without_any_setting_all_are_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.chdir(tmp_path)
    assert told() == {
        "cache": (f"{tmp_path}/.nbstep", "default: in the working directory, which is in no project"),
        "mode": ("normal", "default"),
        "retry_errors": (False, "default"),
        "ttl": (None, "default"),
        "error_ttl": ("auto", "default"),
        "cache_errors": (True, "default"),
        "stale_if_error": (False, "default"),
        "on_drift": ("warn", "default"),
        "max_bytes": (None, "default"),
        "durability": ("auto", "default"),
        "previews": (True, "default"),
        "redact": (None, "default"),
        "signing_key": ("~/jupyter/nbstep/signing_key", "default"),
    }
    assert not (tmp_path / ".nbstep").exists()


def test_w2_environment_variables_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "team.key"
    key.write_bytes(bytes(range(32)))
    for name, value in {
        "NBSTEP_DIR": str(tmp_path / "c"), "NBSTEP_MODE": "off", "NBSTEP_RETRY_ERRORS": "1",
        "NBSTEP_SIGNING_KEY_FILE": str(key),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": str(key)}))
    said = told()
    assert said["cache"] == (f"{tmp_path}/c", "environment: NBSTEP_DIR")
    assert said["mode"] == ("off", "environment: NBSTEP_MODE")
    assert said["retry_errors"] == (True, "environment: NBSTEP_RETRY_ERRORS")
    assert said["signing_key"] == (str(key), "environment: NBSTEP_SIGNING_KEY_FILE")


def test_w2_a_wrong_mode_is_shown_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBSTEP_MODE", "fast")
    assert told()["mode"] == ("fast", "environment: NBSTEP_MODE, not valid: use normal, refresh, offline or off")


def test_w2_options_of_a_cache_are_its_own(tmp_path: Path) -> None:
    said = told(Cache(tmp_path, max_bytes="2 GB", durability="always", previews=False, redact=str.upper))
    assert said["cache"] == (f"{tmp_path}/.nbstep" if "/.nbstep" in said["cache"][0] else str(tmp_path), "given")
    assert said["max_bytes"] == (2_000_000_000, "Cache(max_bytes=…)")
    assert said["durability"] == ("always", "Cache(durability=…)")
    assert said["previews"] == (False, "Cache(previews=…)")
    assert said["redact"] == ("upper", "Cache(redact=…)")


def test_w2_a_workflow_s_options_are_told_inside_it() -> None:
    said: list[dict[str, tuple[Any, str]]] = []
    workflow = create_workflow(cache="memory:", ttl="1h", mode="refresh", cache_errors=(OSError, KeyError))
    workflow(lambda step: said.append(told()))
    assert said[0]["cache"] == ("memory:", "create_workflow(cache=…)")
    assert said[0]["ttl"] == (3600.0, "create_workflow(ttl=…)")
    assert said[0]["mode"] == ("refresh", "create_workflow(mode=…)")
    assert said[0]["cache_errors"] == ("OSError, KeyError", "create_workflow(cache_errors=…)")
    assert said[0]["on_drift"] == ("warn", "default")


def test_w2_a_cell_s_flags_are_told_inside_it(shell: Shell) -> None:
    text = shell.good(
        "%%workflow w --ttl 1h --mode refresh --retry-errors --on-drift code=rerun --cache memory:\n%nbstep settings"
    ).text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "1 h" in lines["ttl"]
    assert "flag --ttl of this cell" in lines["ttl"]
    assert "flag --mode of this cell" in lines["mode"]
    assert "flag --retry-errors of this cell" in lines["retry_errors"]
    assert "flag --on-drift of this cell" in lines["on_drift"]
    assert "code=rerun" in lines["on_drift"]
    assert "memory:" in lines["cache"]
    assert "flag --cache of this cell" in lines["cache"]
    assert "default" in shell.good("%nbstep settings").text.splitlines()[2]


def test_n6_the_table_fits_and_says_how_to_change_each(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_command("settings", screen=Screen(width=120)).text
    assert text.splitlines()[0].split() == ["setting", "value", "from", "set", "by"]
    assert "for ever" in text
    assert "auto: 1 m where it may pass" in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert main(["settings"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("setting")


@pytest.mark.parametrize("verb", ["settings", "doctor"])
def test_n6_a_narrow_screen_shows_every_value_whole(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ("long" * 9) / "cache"
    monkeypatch.setenv("NBSTEP_DIR", str(place))
    text = run_command(verb, screen=Screen(width=50, notebook=True)).text
    assert "…" not in text
    column = slice(16, 34) if verb == "settings" else slice(10, None)
    assert str(place) in "".join(line[column].strip() for line in text.splitlines())
    assert max(len(line) for line in text.splitlines() if str(place) not in line) <= 50


def test_n7_values_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBSTEP_MODE", "\x1b[31m")
    assert "\x1b" not in run_command("settings").text
