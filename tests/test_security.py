"""What SECURITY.md promises, where no other module's tests hold it (T1 to T13)."""

from __future__ import annotations

import os
import pickle
import re
import stat
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.events import StepMissed
from nbstep.stores.base import run_now
from nbstep.testing import RecordingListener

ROOT = Path(__file__).parent.parent


class Evil:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def reason_of(cache: Any, key: str) -> str:
    """Why a step finds nothing to use; its own value arrives all the same."""
    listener = RecordingListener()
    assert (
        create_workflow(cache=cache, on_event=listener)(lambda step: step(lambda: "mine", key=key)).unwrap() == "mine"
    )
    (missed,) = listener.of(StepMissed)
    return missed.reason


def test_each_row_of_the_page_has_a_test() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised = [int(number) for number in re.findall(r"^\| \*\*T(\d+)\*\*", page, re.MULTILINE)]
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert promised == list(range(1, 15))
    assert [number for number in promised if not re.search(rf"def test_t{number}_", tests)] == []


def test_t1_nothing_in_a_project_names_a_key_or_turns_the_check_off(tmp_path: Path) -> None:
    team = tmp_path / "team.key"
    team.write_bytes(b"t" * 32)
    team.chmod(0o600)
    project = tmp_path / "project"
    project.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "NBSTEP_DIR"}
    keep = [sys.executable, "-c", "from nbstep import Cache; Cache('.nbstep').set('k', 'theirs')"]
    subprocess.run(keep, cwd=project, env={**environ, "NBSTEP_SIGNING_KEY_FILE": str(team)}, check=True, timeout=60)
    (project / "pyproject.toml").write_text(
        f'[tool.nbstep]\nsigning_key_file = "{team}"\nverify = false\ntrust = "off"\n'
    )
    (project / ".env").write_text(f"NBSTEP_SIGNING_KEY_FILE={team}\nNBSTEP_TRUST=off\n")
    (project / ".nbstep" / "signing_key").write_bytes(b"t" * 32)
    script = f"""
        import os
        from nbstep import Cache, create_workflow
        os.environ["NBSTEP_SIGNING_KEY_FILE"] = {str(team)!r}  # as a cell of the project's notebook would
        os.environ["NBSTEP_TRUST"] = os.environ["NBSTEP_VERIFY"] = "off"
        print(create_workflow()(lambda step: step(lambda: "mine", key="k")).unwrap())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=project, env=environ, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, "signed by key " in done.stderr) == ("mine\n", True)


@pytest.mark.parametrize("form", ["plain pickle", "signed by somebody else"])
def test_t3_in_a_shared_store_others_can_make_misses_and_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    mark = tmp_path / "ran"
    shared: dict[str, bytes] = {}
    if form == "plain pickle":
        shared["k"] = pickle.dumps(Evil(mark))
    else:
        with monkeypatch.context() as them:
            them.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "them")}))
            Cache(shared).set("k", Evil(mark))
    mark.rmdir() if mark.exists() else None  # keeping tries the value out, as them
    assert reason_of(shared, "k") == ("unreadable" if form == "plain pickle" else "untrusted")
    assert not mark.exists()


def test_t4_all_that_a_run_leaves_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / "a" / "c")
        workflow = create_workflow(cache=cache)
        for number in range(3):
            workflow(lambda step, n=number: [step(lambda: os.urandom(3000), key=f"k{n}:{m}") for m in range(3)])
        assert isinstance(workflow(lambda step: step(lambda: 1 / 0, key="bad")).error, ZeroDivisionError)
        cache.delete("k2:2")
        cache.entries()
    finally:
        left = os.umask(before)
    assert left == 0
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (tmp_path / "a").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {path.name for path in (tmp_path / "a" / "c" / "v1").iterdir()} >= {"e", "runs", "tmp"}


@pytest.mark.parametrize("key", ["../../x", "/etc/passwd", "a\x00b", "x" * 4000, "CON", "e\u0301", "..", "a\nb"])
def test_t6_no_part_of_a_key_is_in_a_file_name(tmp_path: Path, key: str) -> None:
    cache = Cache(tmp_path / "in" / "c")
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key=key))
    assert cache.get(key) == 1
    cache.delete(key)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["c"]
    form = re.compile(
        r"[0-9a-f]{2,64}|[0-9a-f]{64}\.[0-9a-f]{8}(\.[0-9a-f]{16}\.[0-9a-f]{16})?|\d{16}-[0-9a-f-]+\.json"
    )
    names = {path.name for path in (tmp_path / "in" / "c" / "v1").rglob("*")}
    assert {name for name in names if not form.fullmatch(name)} <= {
        "e",
        "tmp",
        "runs",
        "lock",
        "turn",
        "written",
        "catalog",
    }


def test_t8_a_header_that_says_it_is_huge_is_not_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.set("k", 1)
    (path,) = (tmp_path / "c" / "v1" / "e").glob("*/*")
    content = path.read_bytes()
    with path.open("wb") as file:  # a new file, and a long one that takes no room
        file.write(content[:8] + (64 << 20).to_bytes(4, "little") + content[12:])
        file.truncate(128 << 20)
    tracemalloc.start()
    try:
        assert reason_of(cache, "k") == "unreadable"
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_t11_a_link_in_the_place_of_a_lock_or_of_the_temporary_folder_leaves_its_target_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for number, folder in enumerate(("lock", "tmp")):
        cache = Cache(tmp_path / f"c{number}")
        cache.set("a", 1)
        away = tmp_path / f"away{number}"
        away.mkdir()
        inside = tmp_path / f"c{number}" / "v1" / folder
        for path in inside.iterdir() if inside.exists() else ():
            path.unlink()
        inside.rmdir() if inside.exists() else None
        inside.symlink_to(away)
        result = create_workflow(cache=cache)(lambda step: step(lambda: 1, key="k"))
        assert result.unwrap() == 1
        assert list(away.iterdir()) == []
    cache = Cache(tmp_path / "c2")
    cache.set("a", 1)
    (tmp_path / "c2" / "v1" / "lock").mkdir(exist_ok=True)
    digest = next((tmp_path / "c2" / "v1" / "e").glob("*/*")).name[:64]
    cache.clear()
    (tmp_path / "c2" / "v1" / "lock" / digest).symlink_to(victim)
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="a"))
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "redact", [None, lambda text: text.replace("blue-team-9", "…")], ids=["ours", "the user's own"]
)
def test_t10_no_half_of_a_secret_stays_where_a_source_is_cut(tmp_path: Path, redact: Any) -> None:
    """A step's source is cut at 4,096 characters; whatever stands there, the part before it goes as well."""
    secret = "postgresql://ada:half-of-it-may-stay@db/x" if redact is None else "blue-team-9"
    begin = "def work():\n    "
    for before in range(4096 - len(secret) - len(begin), 4096 - len(begin), 3):
        path = tmp_path / f"work_{before}.py"
        path.write_text(f"{begin}{'x' * (before - 3)!r}; {secret!r}\n    return 1\n")
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(path.read_text(), str(path), "exec"), names)
        cache = Cache(tmp_path / "c", redact=redact)
        create_workflow(cache=cache)(lambda step, work=names["work"], key=f"k{before}": step(work, key=key)).unwrap()
    for meta in cache.entries():
        source = run_now(cache.look_up(meta.key)).meta.facts.source
        assert source.startswith("def work():")
        assert len(source) <= 4096
        assert not re.search("half|ada|blue", source), source[-80:]
