"""The signing key: one for a user, made once, never taken from a project (DESIGN 5, "Trust")."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nbstep import events
from nbstep.cache import trust
from nbstep.errors import KeyFileError

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and links of POSIX")


def ring(tmp_path: Path, **environ: str) -> trust.KeyRing:
    return trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "data"), **environ})


def test_the_key_is_made_at_first_use_in_jupyters_data_directory(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    assert not (tmp_path / "data").exists()
    key = keys.key()
    path = tmp_path / "data" / "nbstep" / "signing_key"
    assert keys.path() == path
    assert path.read_bytes() == key.secret
    assert len(key.secret) == 32
    assert os.listdir(path.parent) == ["signing_key"]


@needs_posix
def test_only_its_owner_can_read_the_key(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    keys.key()
    assert stat.S_IMODE(os.stat(keys.path()).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(keys.path().parent).st_mode) == 0o700
    os.chmod(keys.path(), 0o644)
    ring(tmp_path).key()
    assert stat.S_IMODE(os.stat(keys.path()).st_mode) == 0o600


def test_every_process_of_a_user_has_the_same_key(tmp_path: Path) -> None:
    assert ring(tmp_path).key() == ring(tmp_path).key()


def test_of_processes_that_make_the_key_at_once_the_first_one_wins(tmp_path: Path) -> None:
    code = "from nbstep.cache import trust; print(trust.signing_key().secret.hex())"
    environ = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "data")}
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environ) for _ in range(6)]
    secrets = {process.communicate(timeout=60)[0] for process in running}
    assert len(secrets) == 1
    assert os.listdir(tmp_path / "data" / "nbstep") == ["signing_key"]


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    named = tmp_path / "team.key"
    named.write_bytes(b"k" * 40)
    assert ring(tmp_path, NBSTEP_SIGNING_KEY_FILE=str(named)).key().secret == b"k" * 40


def test_the_environment_is_the_inherited_one_not_what_a_project_sets_later(tmp_path: Path) -> None:
    (tmp_path / "evil.key").write_bytes(b"e" * 32)
    code = (
        "import os; from nbstep.cache import trust\n"
        f"os.environ['NBSTEP_SIGNING_KEY_FILE'] = os.environ['JUPYTER_DATA_DIR'] = {str(tmp_path / 'evil.key')!r}\n"
        "print(trust.signing_key().secret == b'e' * 32)"
    )
    environ = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "data")}
    assert subprocess.check_output([sys.executable, "-c", code], env=environ).strip() == b"False"


@pytest.mark.parametrize(
    "spoil",
    [
        "relative",
        "missing",
        "named short",
        "named folder",
        "short",
        "folder",
        "link",
        "unwritable",
        "others write",
        "foreign",
    ],
)
@needs_posix
def test_a_key_that_cannot_be_used_gives_one_in_memory_and_one_finding(tmp_path: Path, spoil: str) -> None:
    environ: dict[str, str] = {}
    path = tmp_path / "data" / "nbstep" / "signing_key"
    if spoil == "relative":
        environ["NBSTEP_SIGNING_KEY_FILE"] = "some.key"
    elif spoil.startswith("named") or spoil == "missing":
        named = tmp_path / "team.key"
        environ["NBSTEP_SIGNING_KEY_FILE"] = str(named)
        if spoil == "named short":
            named.write_bytes(b"x" * 31)
        elif spoil == "named folder":
            named.mkdir()
    elif spoil == "unwritable":
        (tmp_path / "data").write_text("a file where a folder should be")
    else:
        path.parent.mkdir(parents=True)
        if spoil == "short":
            path.write_bytes(b"x")
        elif spoil == "folder":
            path.mkdir()
        elif spoil == "others write":
            path.write_bytes(b"x" * 32)
            path.chmod(0o666)
        elif spoil == "foreign":
            path.write_bytes(b"x" * 32)
            try:
                os.chown(path, 12345, 12345)
            except PermissionError:
                pytest.skip("only root can give a file to somebody else")
        else:
            (tmp_path / "elsewhere").write_bytes(b"x" * 32)
            path.symlink_to(tmp_path / "elsewhere")
    told: list[events.Event] = []
    stop = events.listen(told.append)
    try:
        keys = ring(tmp_path, **environ)
        assert keys.key() is keys.key()
    finally:
        stop()
    assert [type(event) for event in told] == [events.Finding]
    text: str = told[0].text  # type: ignore[union-attr]
    assert "NBSTEP_SIGNING_KEY_FILE" in text
    assert {
        "relative": "no absolute path", "missing": "no such file", "named short": "fewer than 32 bytes",
        "named folder": "no regular file", "short": "fewer than 32 bytes", "folder": "no regular file", "link": "symbolic links",
        "unwritable": "Not a directory", "others write": "others can write", "foreign": "belongs to somebody else",
    }[spoil] in text  # fmt: skip
    assert keys.problem() is not None
    assert not (tmp_path / "team.key").is_file() or spoil == "named short"


def test_a_signature_holds_for_its_purpose_its_parts_and_its_key_only() -> None:
    key, other = trust.SigningKey(b"a" * 32), trust.SigningKey(b"b" * 32)
    mac = key.sign("entry:v1", b"header")
    assert key.verifies("entry:v1", b"header", mac)
    assert not key.verifies("entry:v2", b"header", mac)
    assert not key.verifies("entry:v1", b"headeR", mac)
    assert not other.verifies("entry:v1", b"header", mac)
    assert key.id != other.id
    assert repr(key.secret) not in repr(key)


def test_the_place_follows_jupyters_rules(tmp_path: Path) -> None:
    assert (
        trust.KeyRing({"XDG_DATA_HOME": "/d", "HOME": "/h"}).path() == Path("/d/jupyter/nbstep/signing_key")
        or sys.platform != "linux"
    )
    if sys.platform == "linux":
        assert trust.KeyRing({"HOME": "/h"}).path() == Path("/h/.local/share/jupyter/nbstep/signing_key")


@needs_posix
def test_a_home_that_cannot_be_written_still_gives_the_key_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "data" / "nbstep" / "signing_key"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"k" * 32)
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        keys = ring(tmp_path)
        assert (keys.key().secret, keys.problem()) == (b"k" * 32, None)
    finally:
        path.parent.chmod(0o700)


@needs_posix
def test_a_team_may_share_a_key_by_group_and_by_link(tmp_path: Path) -> None:
    real = tmp_path / "team.key"
    real.write_bytes(b"t" * 32)
    real.chmod(0o440)
    (tmp_path / "link.key").symlink_to(real)
    keys = ring(tmp_path, NBSTEP_SIGNING_KEY_FILE=str(tmp_path / "link.key"))
    assert (keys.key().secret, keys.named, keys.problem()) == (b"t" * 32, True, None)
    assert stat.S_IMODE(real.stat().st_mode) == 0o440
    with pytest.raises(KeyFileError, match="whoever keeps that file"):
        keys.rotate()
    assert real.read_bytes() == b"t" * 32


def test_rotate_makes_a_new_key_and_keeps_the_old_file_by_its_id(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    old = keys.key()
    rotation = keys.rotate()
    assert rotation.kept_in == keys.path().with_name(f"signing_key.{old.id}")
    assert (rotation.kept_in.read_bytes(), keys.path().read_bytes()) == (old.secret, rotation.new.secret)
    assert keys.key() == rotation.new == ring(tmp_path).key()
    assert sorted(os.listdir(keys.path().parent)) == ["signing_key", f"signing_key.{old.id}"]


def test_rotate_by_a_process_that_does_not_know_of_another_rotation_loses_no_key(tmp_path: Path) -> None:
    here, there = ring(tmp_path), ring(tmp_path)
    first = there.key()
    here.key()
    second = here.rotate().new
    with pytest.raises(KeyFileError, match="another process"):
        there.rotate()
    files = {path.read_bytes() for path in here.path().parent.iterdir()}
    assert files == {first.secret, second.secret}
    assert here.path().read_bytes() == second.secret


def test_rotate_that_cannot_write_leaves_the_key_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ring(tmp_path)
    old = keys.key()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as then:
        then.setattr(os, "write", full)
        with pytest.raises(KeyFileError, match="No space left"):
            keys.rotate()
    assert keys.key() == old == ring(tmp_path).key()
