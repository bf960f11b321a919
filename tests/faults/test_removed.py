"""The table of `removed.py` fits nbstep as it is, and its runner tells a removal that a test notices from one that none does."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from faults.removals import REMOVALS, Removal
from faults.removed import ROOT, choose, find_tests, run, table, without


@pytest.fixture(scope="module")
def found() -> list[str]:
    return find_tests(ROOT)


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.name)
def test_every_removal_still_applies_and_names_tests_that_there_are(removal: Removal, found: list[str]) -> None:
    text = (ROOT / "nbstep" / removal.file).read_text(encoding="utf-8")
    changed = without(removal, text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), "it changes nothing"
    compile(changed, removal.file, "exec")
    assert removal.tests
    assert all(choose(test, found) for test in removal.tests)


def test_every_removal_has_a_name_and_a_place_of_its_own() -> None:
    assert [name for name, count in Counter(one.name for one in REMOVALS).items() if count > 1] == []
    assert [one.name for one in REMOVALS if one.name != one.name.lower() or " " in one.name] == []


def test_the_readme_shows_the_table() -> None:
    readme = (ROOT / "tests" / "faults" / "README.md").read_text(encoding="utf-8")
    assert table(REMOVALS) in readme, "python3 tests/faults/removed.py --table prints what is to stand there"


def test_every_fault_test_has_a_removal_or_stands_in_the_readme_without_one(found: list[str]) -> None:
    noticed = {one.partition("[")[0] for removal in REMOVALS for test in removal.tests for one in choose(test, found)}
    readme = (ROOT / "tests" / "faults" / "README.md").read_text(encoding="utf-8")
    excused = [name for name in re.findall(r"\w+", readme.partition("Not among them: ")[2]) if name.count("_") > 2]
    left = {one.partition("[")[0] for one in found if not one.startswith("test_removed.py")} - noticed
    assert sorted(one for one in left if not any(name in one for name in excused)) == []


def test_the_runner_tells_what_a_test_notices_from_what_survives(capsys: pytest.CaptureFixture[str]) -> None:
    (magic,) = (one for one in REMOVALS if one.name == "magic")
    test = "every_byte::what_only_claims[a plain pickle]"
    noticed = Removal("noticed", "", magic.file, magic.old, magic.new, (test,))
    not_so = Removal("not-so", "", magic.file, magic.old, f"{magic.old}  # as before", (test,))
    assert run([noticed, not_so], at_once=1) == 1
    whole, first, second, counts = capsys.readouterr().out.splitlines()
    assert whole.startswith("1 tests, with everything in place … passed, ")
    assert first.startswith(f"noticed: {test} fails, as it should, ")
    assert "assert why in (why_not(tmp_path) or" in first
    assert second.startswith(f"not-so: {test} SURVIVED, ")
    assert counts == "1 fails, as it should, 1 SURVIVED"
