"""What a `step.map` of very many tiny items holds in memory: next to nothing an item, beside the list of results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# What is kept of the first steps of a run by name is limited; here the limits are low, so that few items show what goes on growing.
SCRIPT = """
import gc, json, sys, tracemalloc
from nbstep import create_workflow
from nbstep.batch import keying
from nbstep.cache import hot
from nbstep.collisions import firstasks
from nbstep.notebook import live, settling
from nbstep.runlog import rows, writing
from nbstep.steps import ask

firstasks._MAX_KEYS = rows._STEPS_AT_MOST = keying._BY_NAME = ask._KEYS_HELD = 500
writing._HEARD_AT_MOST = live._EVENTS_AT_MOST = 400
settling.CALLS_AT_MOST, settling._CALLS_STAY = 400, 200
hot._BYTES_AT_MOST = 1 << 18

COUNT, HALF, sized = 4_500, 2_500, sys.argv[3] == "list"
held = []

def number(n):
    return n

def named(n):
    if n in (HALF, COUNT - 1):
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    return f"n:{n}"

def mapped():
    held.clear()
    view = live.StepListView(None, print)
    workflow = create_workflow(cache=sys.argv[1], on_event=view)
    items = range(COUNT) if sized else iter(range(COUNT))
    given = workflow(lambda step: step.map(number, items, key=named, n_jobs=2)).value
    assert given == list(range(COUNT))

if sys.argv[2] == "again":
    mapped()
tracemalloc.start()
mapped()
print(json.dumps((held[-1] - held[-2]) / (COUNT - HALF)))
"""


@pytest.mark.parametrize(("round_", "items"), [("cold", "stream"), ("again", "list")])
def test_an_item_of_a_map_adds_little_to_what_is_held(tmp_path: Path, items: str, round_: str) -> None:
    """The result itself, an int in a list, is 40 bytes; digests of its key 25 each. Once it was 1,000, and a list 4,000."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), round_, items],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) < 200
