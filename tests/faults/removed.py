"""Takes protections out of nbstep, one at a time and in a copy, and shows that the fault tests fail by it.

`python3 tests/faults/removed.py` runs the whole table (`removals/`), with names only these; `--list` shows it, `-j 2` runs two
at once. The tests are first run in a copy that nothing was taken out of: there they must pass.
"""

# ruff: noqa: T201 - a command, which prints what it sees
from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "notebooks")]

from faults.removals import REMOVALS, Removal  # noqa: E402

TEST_MAY_TAKE_S: Final = 180.0
_COPIED: Final = ("nbstep", "tests", "conftest.py", "pyproject.toml", "SECURITY.md")
_WORDS: Final = {"failed": "fails, as it should", "passed": "SURVIVED", "skipped": "is skipped here", "hung": "HANGS"}
_SHOWN: Final = 140


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of some tests: how it ended ("failed", "passed", "skipped", …), by what, and after how many seconds."""

    ended: str
    why: str
    took_s: float


# The table -----------------------------------------------------------------------------------------------------------------


def find_tests(folder: Path) -> list[str]:
    """The fault tests that pytest finds in a copy, each as `test_x.py::test_y[z]`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/faults"],
        cwd=folder, env=_environ(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    short = [line.partition("tests/faults/")[2] for line in done.stdout.splitlines() if "::test_" in line]
    if not short:
        raise SystemExit(f"pytest found no fault tests:\n{done.stdout}{done.stderr}")
    return short


def choose(test: str, found: Iterable[str]) -> list[str]:
    """The tests that a removal names, as pytest calls them: those of one function, or one of them.

    >>> choose("x::b[1]", ["test_x.py::test_a_b[1]", "test_x.py::test_a_b[2]", "test_x.py::test_c"])
    ['test_x.py::test_a_b[1]']
    >>> choose("x::c", ["test_x.py::test_c", "test_x.py::test_a_c"])
    Traceback (most recent call last):
    LookupError: x::c names 2 tests: test_x.py::test_a_c, test_x.py::test_c
    """
    match = re.fullmatch(r"(\w+)::(\w+)(\[.+\])?", test)
    if match is None:
        raise LookupError(f"{test} names no test")
    module, part, only = match.groups()
    chosen = [one for one in found if one.startswith(f"test_{module}.py::") and part in one.partition("[")[0]]
    functions = sorted({one.partition("[")[0] for one in chosen})
    if len(functions) != 1:
        raise LookupError(f"{test} names {len(functions)} tests: {', '.join(functions)}")
    chosen = [one for one in chosen if only is None or one.endswith(f"{functions[0].rpartition('::')[2]}{only}")]
    if not chosen:
        raise LookupError(f"{test}: {functions[0]} has no {only}")
    return chosen


def without(removal: Removal, text: str) -> str:
    """The text of a file after a removal.

    Raises:
        LookupError: What is to be removed stands there not once.
    """
    if text.count(removal.old) != 1:
        raise LookupError(f"{removal.name}: stands {text.count(removal.old)} times in nbstep/{removal.file}, not once")
    return text.replace(removal.old, removal.new)


def table(removals: Iterable[Removal]) -> str:
    """What the README shows of the removals: each test, and what it is seen to fail by."""
    by_test: dict[str, dict[str, list[str]]] = {}
    for removal in removals:
        for test in dict.fromkeys(test.partition("[")[0] for test in removal.tests):
            module, _, part = test.partition("::")
            by_test.setdefault(module, {}).setdefault(part, []).append(removal.says)
    lines = ["| test | seen to fail when |", "|---|---|"]
    for module, parts in by_test.items():
        lines += [f"| **test_{module}** | |", *(f"| {part} | {'; '.join(says)} |" for part, says in parts.items())]
    return "\n".join(lines)


# Copies --------------------------------------------------------------------------------------------------------------------


def make_copy(folder: Path) -> Path:
    """A copy of nbstep and its tests; what is imported there is the copy."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "screenshots", ".nbstep")
            )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    said = subprocess.run(
        [sys.executable, "-c", "import nbstep; print(nbstep.__file__)"],
        cwd=folder, env=_environ(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    if Path(said.stdout.strip()) != folder / "nbstep" / "__init__.py":
        raise SystemExit(f"not the copy in {folder} would be tested, but {said.stdout.strip()}")
    return folder


def _environ(folder: Path) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("NBSTEP_", "PYTEST_"))}
    return {**environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "tests")])}


def run_tests(folder: Path, tests: Sequence[str], may_take_s: float = TEST_MAY_TAKE_S) -> Verdict:
    """Runs tests in a copy until the first one fails."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={report}",
            *(f"tests/faults/{test}" for test in tests),
        ],
        cwd=folder, env=_environ(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=may_take_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # what the test started goes too
        process.communicate()
        return Verdict("hung", f"it is not over after {may_take_s:.0f} s", time.monotonic() - began)
    took_s = time.monotonic() - began
    if process.returncode < 0:
        return Verdict("failed", f"the process ends by {signal.Signals(-process.returncode).name}", took_s)
    return Verdict(*_reported(report, said), took_s)


def _reported(report: Path, said: str) -> tuple[str, str]:
    if not report.exists():
        return "broken", _last_line(said)
    cases = list(ElementTree.parse(report).iter("testcase"))
    for case in cases:
        for kind, ended in (("error", "broken"), ("failure", "failed")):
            problem = case.find(kind)
            if problem is not None:
                return ended, _first_line(problem.text or "") or str(problem.get("message"))
    if not cases:
        return "broken", _last_line(said)
    return ("skipped" if all(case.find("skipped") is not None for case in cases) else "passed"), ""


def _first_line(trace: str) -> str:
    """The statement that failed, where it is an assertion, and how."""
    lines = trace.splitlines()
    first = next((n for n, line in enumerate(lines) if line.startswith("E  ")), None)
    if first is None:
        return ""
    said, statement = lines[first][1:].strip(), lines[first - 1].strip()
    return f"{statement}  →  {said}" if statement.startswith("assert ") else said


def _last_line(said: str) -> str:
    return next((line for line in reversed(said.splitlines()) if line.strip()), "pytest said nothing")


# The run -------------------------------------------------------------------------------------------------------------------


def try_removal(removal: Removal, test: str, found: Sequence[str], folder: Path) -> Verdict:
    """Applies a removal in a copy, runs a test and puts everything back."""
    path = folder / "nbstep" / removal.file
    before, status = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(without(removal, before), encoding="utf-8")
    try:
        return run_tests(folder, choose(test, found))
    finally:
        path.write_text(before, encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # so that no compiled file of the other text fits


def run(removals: Sequence[Removal], at_once: int) -> int:
    """Tries removals; prints a line a test. 1 where one survived, or nothing could be told."""
    with tempfile.TemporaryDirectory(prefix="nbstep-removed-") as place:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for n in range(at_once):
            copies.put(make_copy(Path(place).resolve() / f"copy {n}"))
        folder = copies.get()
        found = find_tests(folder)
        wanted = list(
            dict.fromkeys(one for removal in removals for test in removal.tests for one in choose(test, found))
        )
        print(f"{len(wanted)} tests, with everything in place … ", end="", flush=True)
        whole = run_tests(folder, wanted, may_take_s=10 * TEST_MAY_TAKE_S)
        copies.put(folder)
        print(f"{whole.ended}, {whole.took_s:.0f} s  {whole.why}", flush=True)
        if whole.ended != "passed":
            return 1

        def attempt(removal: Removal, test: str) -> Verdict:
            folder = copies.get()
            try:
                verdict = try_removal(removal, test, found, folder)
            finally:
                copies.put(folder)
            word = _WORDS.get(verdict.ended, "cannot be told")
            print(f"{removal.name}: {test} {word}, {verdict.took_s:.0f} s  {verdict.why[:_SHOWN]}", flush=True)
            return verdict

        with ThreadPoolExecutor(at_once) as pool:
            verdicts = list(
                pool.map(lambda pair: attempt(*pair), [(one, test) for one in removals for test in one.tests])
            )
    counts = {
        ended: sum(one.ended == ended for one in verdicts) for ended in dict.fromkeys(one.ended for one in verdicts)
    }
    print(", ".join(f"{count} {_WORDS.get(ended, 'cannot be told')}" for ended, count in counts.items()))
    return int(not set(counts) <= {"failed", "hung", "skipped"})


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="removed.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="the removals to try, or files of tests; all by default"
    )
    parser.add_argument("-j", dest="at_once", type=int, default=1, metavar="N", help="try so many at once")
    parser.add_argument("--list", action="store_true", help="show the removals and try none")
    parser.add_argument("--table", action="store_true", help="the same by tests, as in the README")
    asked = parser.parse_args(arguments)
    known = {one.name for one in REMOVALS} | {test.partition("::")[0] for one in REMOVALS for test in one.tests}
    for name in asked.names:
        if name not in known:
            parser.error(f"there is no removal {name}; --list shows all")
    chosen = [one for one in (_meant(one, asked.names) for one in REMOVALS) if one.tests]
    if asked.list:
        for one in chosen:
            print(f"{one.name}: {one.says} ({one.file})")
            print("".join(f"    {test}\n" for test in one.tests), end="")
        return 0
    if asked.table:
        print(table(chosen))
        return 0
    return run(chosen, max(1, asked.at_once))


def _meant(removal: Removal, names: Sequence[str]) -> Removal:
    """A removal with those of its tests that are asked for: all by its own name, or those of a file that is named."""
    if not names or removal.name in names:
        return removal
    return replace(removal, tests=tuple(test for test in removal.tests if test.partition("::")[0] in names))


if __name__ == "__main__":
    import environment  # it lies beside the notebooks

    if not environment.is_inside():
        environment.run([__file__, *sys.argv[1:]])
    raise SystemExit(main(sys.argv[1:]))
