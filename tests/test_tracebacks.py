"""What a plain script prints of an error: the user's own lines, none of nbstep's."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import nbstep

BEGIN = """
import asyncio
from nbstep import Cache, create_workflow, step
workflow = create_workflow(cache={})
def parse(text):
    return int(text)  # the user's
def ask(key):
    return step(lambda: parse("x"), key=key)  # asks
async def aparse(text):
    return int(text)  # the user's
"""


def _traceback(folder: Path, source: str) -> tuple[list[str], str]:
    """The lines of code that the script's traceback shows, and all of it."""
    path = folder / "etl.py"
    path.write_text(BEGIN + textwrap.dedent(source))
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1, ran.stderr
    return re.findall(r'^  File "(.*)", line', ran.stderr, re.MULTILINE), ran.stderr


def _ours(files: list[str]) -> list[str]:
    own = str(Path(nbstep.__file__).parent)
    return [file for file in files if file.startswith(own)]


FAILS = {
    "plain": 'ask("k")',
    "kept": 'try: ask("k")\nexcept ValueError: pass\nask("k")',
    "no key": "ask(None)",
    "a builtin": 'step(int, "x", key="k")',
    "retried": 'step(parse, "x", key="k", retries=1)',
    "awaited": 'async def main(): return await step(aparse, "x", key="k")\nasyncio.run(main())',
    "in a task": 'async def main(): return await asyncio.gather(step(aparse, "x", key="k"))\nasyncio.run(main())',
    "step.map": 'step.map(parse, ["x"], key="p:{}")',
    "cached": '@step.cached("k:{text}")\ndef read(text): return parse(text)\nread("x")',
    "a result": "workflow(lambda step: step(parse, 'x', key='k')).unwrap()",
}


@pytest.mark.parametrize("source", FAILS.values(), ids=FAILS)
def test_a_failure_shows_the_users_lines_and_few_of_ours(tmp_path: Path, source: str) -> None:
    files, text = _traceback(tmp_path, source)
    assert text.splitlines()[-1].startswith(
        ("ValueError: invalid literal", "  A retry around", "  step.map: item 1 of 1")
    )
    assert "the user's" in text or "int, " in source or source == FAILS["kept"]
    assert len(_ours(files)) <= (1 if source in (FAILS["cached"], FAILS["in a task"], FAILS["a result"]) else 0), text


def test_a_bug_of_the_body_keeps_its_own_frames(tmp_path: Path) -> None:
    _, text = _traceback(tmp_path, 'def body(step):\n    {}["a"]  # mine\nworkflow(body)')
    assert "# mine" in text


def test_a_time_out_is_one_traceback_that_ends_where_the_thunk_was(tmp_path: Path) -> None:
    files, text = _traceback(
        tmp_path,
        """
        async def slow():
            await asyncio.sleep(60)  # was here
        async def main():
            return await step(slow, key="k", timeout=0.05)
        asyncio.run(main())
        """,
    )
    assert text.count("Traceback") == 1
    assert "# was here" in text
    assert _ours(files) == []
    assert text.splitlines()[-1] == "nbstep.errors.StepTimeout: the step took longer than timeout=0.05 s"
