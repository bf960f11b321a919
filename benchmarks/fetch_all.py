"""Fetches `BASE0`, `BASE1` … with step.map and prints their sum: the process that `fanout.py --kill` and the tests kill.

python fetch_all.py BASE FOLDER ITEMS THREADS
"""

from __future__ import annotations

import json
import sys
import urllib.request

from nbstep import create_workflow

base, folder, items, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def fetch(n: int) -> int:
    with urllib.request.urlopen(f"{base}{n}") as response:
        return json.load(response)["n"]


if __name__ == "__main__":
    workflow = create_workflow(cache=folder)
    print(sum(workflow(lambda step: step.map(fetch, range(items), key="n:{}", n_jobs=threads)).unwrap()))
