"""`nbstep doctor`: one table that says where a cache is, what it stands on and how it does (C0, N6, N7)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from logged import put_file, record
from shared_data import lay_out

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.cache.where import project_place
from nbstep.commands.autoload import startup_file
from nbstep.commands.doctor import facts_text
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.project import place_text
from nbstep.stores.health import examine

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")


def told(cache: Cache | None = None, **screen: Any) -> dict[str, str]:
    """The table as it reads, by its first column."""
    outcome = run_command("doctor", cache=cache, screen=Screen(**({"width": 1000} | screen)))
    assert outcome.exit_code == 0
    assert outcome.text.replace("\n", "").isprintable()
    facts: dict[str, str] = {}
    name = ""
    width = max(len(line.split("  ")[0]) for line in outcome.text.splitlines() if line[0] != " ")
    for line in outcome.text.splitlines():
        name = line[:width].strip() or name
        facts[name] = f"{facts[name]}\n{line[width + 2 :]}" if name in facts else line[width + 2 :]
    return facts


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_c0_it_says_where_the_cache_is_and_why(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told()["cache"] == (
        f"{project}/.nbstep: nothing kept yet, a step with a key makes it\nin the working directory, which is in no project"
    )
    assert not (project / ".nbstep").exists()
    (project / "pyproject.toml").touch()
    assert told()["cache"].endswith("\nbeside the nearest pyproject.toml from the working directory upwards")
    Cache(project / ".nbstep")
    assert told()["cache"] == f"{project}/.nbstep\nthe nearest .nbstep from the working directory upwards"
    other = Cache(project / "other")
    assert told(other)["cache"].endswith(
        f"\nnamed by you; the project's is {project}/.nbstep, the nearest .nbstep from the working directory upwards"
    )
    monkeypatch.setenv("NBSTEP_DIR", str(project / "other"))
    assert told()["cache"] == f"{project}/other\nNBSTEP_DIR names it"
    assert told(Cache("memory:"))["cache"] == "memory:\na store of your own, or memory"


@needs_posix
def test_it_says_what_the_cache_stands_on(project: Path) -> None:
    cache = Cache(project / ".nbstep")
    facts = told(cache)
    assert " free of " in facts["disk"]
    assert (facts["owner"].endswith(", mode 0700"), facts["locks"]) == (True, "work")
    os.chmod(project / ".nbstep", 0o777)
    facts = told(cache)
    assert facts["owner"].endswith(
        ", mode 0777: others can write here, what they put in is not trusted\n"
        f"Fix: chmod 700 {project}/.nbstep, if it is not shared on purpose"
    )
    assert facts["disk"].endswith("large values are read, not mapped")
    assert list((project / ".nbstep" / "v1" / "tmp").iterdir()) == []


@needs_posix
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    cache = Cache(tmp_path / "c")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert told(cache)["locks"] == (
        "do not work (Function not implemented): two kernels may both compute\n"
        "Fix: let NBSTEP_DIR name a folder on a disk with locks, or run one kernel at a time"
    )


@needs_posix
def test_another_owner_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    try:
        os.chown(tmp_path / "c", 54321, 54321)
    except PermissionError:
        pytest.skip("only root can give a folder to somebody else")
    assert (examine(tmp_path / "c").owner, examine(tmp_path / "c").is_mine) == ("54321", False)


def test_it_says_which_key_signs_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "c")
    ring = trust.key_ring()
    assert told(cache)["key"] == f"{ring.key().id} in {trust.place_text(ring.path())}"
    team = tmp_path / "team.key"
    team.write_bytes(b"t" * 32)
    team.chmod(0o600)
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": str(team)}))
    assert told(cache)["key"].endswith("team.key, which NBSTEP_SIGNING_KEY_FILE names")
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": "team.key"}))
    assert told(cache)["key"].endswith(
        "none that lasts: NBSTEP_SIGNING_KEY_FILE='team.key' is no absolute path\n"
        "Fix: correct NBSTEP_SIGNING_KEY_FILE or unset it, then start anew"
    )


@needs_posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_file_that_others_can_read_is_remarked_with_the_command_that_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    team = tmp_path / "team key"
    team.write_bytes(b"t" * 32)
    team.chmod(mode)
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": str(team)}))
    cache = Cache(tmp_path / "c")
    _, remark, fix = told(cache)["key"].splitlines()
    assert remark == f"mode {mode:04o}: others can read it, and sign what runs code as you"
    subprocess.run(fix.removeprefix("Fix: "), shell=True, check=True)
    assert team.stat().st_mode & 0o777 == 0o600
    assert len(told(cache)["key"].splitlines()) == 1


@needs_posix
def test_the_recipe_for_a_team_s_key_makes_a_private_file_and_takes_over_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"`([^`]*head -c 32[^`]*)`", readme)
    subprocess.run(f"umask 022; {recipe}", shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "team.key").stat().st_mode & 0o777 == 0o600
    cache = Cache(tmp_path / "c")
    cache.set("k", 1)
    own = trust.key_ring().path()
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": str(tmp_path / "team.key")}))
    assert cache.get("k") is None
    (switch,) = re.findall(r"`nbstep (trust --key-file [^`]*)`", readme)
    assert run_command(f"{switch.replace('OWN_KEY', str(own))} -y", cache=cache).exit_code == 0
    assert cache.get("k") == 1


@pytest.mark.parametrize("named", ["/no/such/team.key", "team.key"])
def test_a_key_that_cannot_be_used_is_told_once_in_short_lines_and_never_by_advice_that_is_refused(
    tmp_path: Path, named: str
) -> None:
    cache = Cache(tmp_path / "c")
    cache.set("k", 1)
    environ = {**os.environ, "NBSTEP_SIGNING_KEY_FILE": named}
    keep = "from nbstep import create_workflow; create_workflow(cache='c')(lambda step: step(lambda: 1, key='k'))"
    subprocess.run([sys.executable, "-c", keep], cwd=tmp_path, env=environ, check=True, capture_output=True)
    for verb in ("doctor", "trust", "verify", "trust --rotate", "rm --untrusted"):
        command = [sys.executable, "-m", "nbstep", *verb.split(), "--cache", str(tmp_path / "c")]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=tmp_path)
        said = done.stdout + done.stderr
        lines = [line for line in said.splitlines() if "NBSTEP_SIGNING_KEY_FILE=" in line]
        assert len(lines) == 1, said
        assert len(lines[0]) < 200, said
        assert "correct NBSTEP_SIGNING_KEY_FILE or unset it" in said, said
        assert "nbstep trust" not in said.replace(lines[0], ""), said
        assert "rm --untrusted" not in said, said
    assert len(cache.entries()) == 2


def test_it_counts_entries_hits_misses_and_what_was_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "c")
    assert (told(cache)["entries"], told(cache)["trash"], told(cache)["runs"]) == ("0, 0 B", "empty", "none logged yet")
    with monkeypatch.context() as then:
        then.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "them")}))
        Cache(tmp_path / "c").set("theirs", 1)

    def fails() -> None:
        raise ValueError("no")

    def body(step: Any) -> None:
        step(lambda: 1, key="a")
        step(lambda: 2, key="theirs")
        step(lambda: (n for n in ()), key="postgres://ada:hunter2@db/x\x1b[2J")
        step(fails, key="bad")

    workflow = create_workflow(cache=cache)
    workflow(body)
    cache.set("spoilt", 1)
    (path,) = [path for path in (tmp_path / "c" / "v1" / "e").glob("*/*") if b'"key":"spoilt"' in path.read_bytes()]
    path.write_bytes(b"garbage")
    workflow(body)
    facts = told(cache, notebook=True)
    assert facts["entries"].endswith(
        ", 1 failed, 1 corrupt, and 1 of other signers beside them\n"
        "Fix: delete those of other signers, your own stay: %nbstep rm --untrusted\n"
        "Fix: their steps run again and replace them; which and why: %nbstep verify"
    )
    assert facts["runs"].startswith("2 logged since ")
    assert facts["hits"].startswith("3, saved ")
    assert facts["misses"] == "4 new, 1 untrusted"
    assert facts["not kept"] == "2 results"
    notes = facts["notes"].splitlines()
    assert len(notes) == 2
    assert "signed by key" in facts["notes"]
    assert r"postgres://<redacted>@db/x\x1b[2J was not kept" in facts["notes"]


def doctor(folder: Path, **environ: str) -> list[str]:
    """What the command prints, for a user who is refused what the mode refuses."""
    command = [sys.executable, "-m", "nbstep", "doctor"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused anything")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": "1000", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.splitlines()]


@needs_posix
def test_c0_a_project_that_cannot_be_written_is_named_with_what_to_do_before_and_after(project: Path) -> None:
    fix = "Fix: make it writable for you, or let NBSTEP_DIR name a folder that is"
    project.chmod(0o500)
    try:
        lines = doctor(project)
        assert lines[1].startswith(
            f"cache     {project}/.nbstep cannot be written: a step with a key keeps in ~/.cache/nbstep/"
        )
        assert lines[3] == fix
        fallback = project_place().fallback
        Cache(fallback).set("a", 1)
        lines = doctor(project)
        assert lines[1:4] == [
            f"cache     {place_text(fallback)}", f"yours alone: {project}/.nbstep cannot be written", fix,
        ]  # fmt: skip
    finally:
        project.chmod(0o700)


@needs_posix
def test_c6_a_disk_that_is_nearly_full_is_told_with_what_to_do(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this system mounts no tmpfs")
    try:
        cache = Cache(disk / ".nbstep")
        (disk / "fill").write_bytes(bytes(9_800_000))
        lines = told(cache)["disk"].splitlines()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert lines[0].startswith("tmpfs, ")
    assert lines[0].endswith(" free of 10 MB, nothing more is kept: nbstep leaves the last 1.0 MB free")
    assert (
        lines[1]
        == "Fix: make room on the disk; what is kept: nbstep ls; what nothing used lately goes: nbstep gc --unused 30d"
    )


def test_n7_a_hostile_run_log_stays_a_few_short_lines(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.set("a", 1)
    for number in range(30):
        steps = [["k" * 5000, "ran", "ok", 1, 1, 1, f"\x1b[31m{number}.{step}"] for step in range(50)]
        findings = [["untrusted", f"line\nbreak {number} " + "long " * 300]] * 50
        put_file(tmp_path / "c", f"{number:016d}-evil.json", record(steps=steps, findings=findings))
    facts = told(cache)
    assert facts["misses"] == "1,500 for another reason"
    assert [len(line) < 230 for line in facts["notes"].splitlines()] == [True] * 5


def test_t10_no_secret_of_a_finding_reaches_the_run_log(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    create_workflow(cache=cache)(lambda step: [step(lambda: (n for n in ()), key="k"), step(lambda: 1, key="a")])
    workflow = create_workflow(cache=cache, cache_errors=lambda error: 1 / 0)

    def fails() -> None:
        raise ValueError("no")

    workflow(lambda step: step(fails, key="https://ada:hunter2@api.x.com?api_key=s3cr3t"))
    logs = [path.read_text() for path in (tmp_path / "c" / "v1" / "runs").iterdir()]
    findings = [json.dumps(json.loads(text)["findings"]) for text in logs]
    assert len([text for text in findings if "was not kept" in text or "cache_errors= failed" in text]) == 2
    assert [text for text in findings if "hunter2" in text or "s3cr3t" in text] == []


def test_columns_are_aligned_and_empty_facts_left_out() -> None:
    assert facts_text([("a", "x"), ("long name", "y"), ("none", "")]) == "a          x\nlong name  y"


def test_it_says_whether_the_sidebar_is_there_and_enabled_and_autoload_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(project / "env"))
    for name, value in lay_out(project / "env").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(project / "own"))
    facts = told(Cache(project / ".nbstep"))
    assert facts["sidebar"] == "server extension enabled, labextension enabled"
    assert facts["autoload"] == "off"

    environ = {**os.environ, "JUPYTER_CONFIG_DIR": str(project / "env" / "etc" / "jupyter")}
    for name, command in (
        ("server extension", ["-m", "jupyter_server", "extension", "disable", "nbstep", "--user"]),
        ("labextension", ["-m", "jupyterlab.labextensions", "disable", "nbstep", "--level=user"]),
    ):
        subprocess.run([sys.executable, *command], env=environ, check=True, capture_output=True)
        said = told(Cache(project / ".nbstep"))["sidebar"]
        assert f"{name} disabled" in said
        assert f"Fix: jupyter {name} enable nbstep, then restart JupyterLab" in said
    run_command("autoload on")
    assert told(Cache(project / ".nbstep"))["autoload"] == f"on, {place_text(startup_file())}"
