"""Who notices what changed: nbstep, joblib.Memory and marimo over the same pairs of cells; writes DRIFT.md.

    pip install --group bench -e .
    python benchmarks/drift.py [--wrong]

The pairs are those of `tests/drift`, where an author said of each edit whether a kept result is old after it. A cell runs, runs
again unchanged, then after the edit: each time in a new process, with another hash seed. `drift_cells.py` says how a cell of nbstep
becomes one of joblib or marimo. A pair that a peer cannot express is counted apart.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from textwrap import indent
from typing import Any, Final, Literal

from drift_cells import LEFT_OUT, CannotExpress, for_joblib, for_marimo

HERE: Final = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "drift"))

from corpus import Pair, read_pairs, run_sides, write_side  # noqa: E402

RESULTS: Final = HERE / "DRIFT.md"
Verdict = Literal["right", "stale", "for nothing", "cannot"]
PEERS: Final = {"nbstep": "nbstep", "joblib": "joblib.Memory", "marimo": "marimo's persistent_cache"}


@dataclass(frozen=True)
class Judged:
    """What one peer did with one pair.

    Attributes:
        verdict: `stale`: served the old result without a word; `for nothing`: computed again, or called old, what is not;
            `cannot`: the pair cannot be expressed, or its cell cannot run.
        detail: Why it cannot.
        never: It computed the unchanged cell again, too, so that what it did after the edit says nothing.
    """

    verdict: Verdict
    detail: str = ""
    never: bool = False


def judge_nbstep(pairs: dict[str, Pair], folder: Path) -> dict[str, Judged]:
    """nbstep uses a kept result and says what it finds changed: `drift`."""
    before, again, after = _three_runs(pairs, folder, _write_nbstep, run_sides)
    found: dict[str, Judged] = {}
    for number, pair in pairs.items():
        called_old = bool(after[number]["drift"] or after[number]["misses"])
        never = bool(again[number]["drift"] or again[number]["misses"])
        assert before[number]["ok"], pair.name
        found[number] = Judged(_verdict(pair, called_old), never=never)
    return found


def judge_peer(peer: str, pairs: dict[str, Pair], folder: Path) -> dict[str, Judged]:
    """A peer computes again, or uses what it has."""
    cannot: dict[str, str] = {}

    def write(place: Path, pair: Pair, files: dict[str, str]) -> None:
        others = {name: text for name, text in files.items() if name != "cell"}
        try:
            cell = _peer_cell(peer, files["cell"], LEFT_OUT.get(pair.name, ()))
        except CannotExpress as error:
            cannot[place.name] = str(error)
            return
        write_side(place, {**others, "peer_cell.py": cell})

    def run(place: Path, seed: str) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "drift_run.py"), peer, str(place)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)

    before, again, after = _three_runs(pairs, folder, write, run)
    found: dict[str, Judged] = {}
    for number, pair in pairs.items():
        runs = [outcome.get(number, {"error": cannot.get(number)}) for outcome in (before, again, after)]
        if number in cannot or any("error" in one for one in runs):
            why = cannot.get(number) or next(one["error"] for one in runs if "error" in one)
            found[number] = Judged("cannot", why if len(why) <= 100 else f"{why[:99]}…")
        elif not runs[0]["computed"]:
            found[number] = Judged("cannot", "it stores no result")
        else:
            found[number] = Judged(_verdict(pair, runs[2]["computed"] > 0), never=runs[1]["computed"] > 0)
    return found


def _three_runs(
    pairs: dict[str, Pair],
    folder: Path,
    write: Callable[[Path, Pair, dict[str, str]], None],
    run: Callable[[Path, str], dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    for number, pair in pairs.items():
        write(folder / number, pair, pair.before)
    before, again = run(folder, "1"), run(folder, "2")
    for number, pair in pairs.items():
        write(folder / number, pair, pair.after)
    return before, again, run(folder, "3")


def _write_nbstep(folder: Path, _: Pair, files: dict[str, str]) -> None:
    write_side(folder, files)


def _peer_cell(peer: str, cell: str, left_out: tuple[str, ...] | None) -> str:
    if peer == "joblib":
        return for_joblib(cell, left_out)
    cells = [f"@app.cell\ndef _():\n{indent(code, '    ')}\n" for code in for_marimo(cell, left_out)]
    return "\n\n".join(["import marimo\n\napp = marimo.App()\n", *cells, 'if __name__ == "__main__":\n    app.run()\n'])


def _verdict(pair: Pair, noticed: bool) -> Verdict:
    if noticed == bool(pair.said):
        return "right"
    return "for nothing" if noticed else "stale"


def table(pairs: dict[str, Pair], judged: dict[str, dict[str, Judged]]) -> str:
    """The counts, by kind and in all."""
    kinds = {
        "must count": [number for number, pair in pairs.items() if pair.said],
        "must not count": [number for number, pair in pairs.items() if not pair.said],
        "all": list(pairs),
    }
    head = "| | pairs | right | wrong: serves stale silently | wrong: re-runs for nothing | cannot express |"
    lines = [head, "|---|---|---|---|---|---|"]
    for peer, verdicts in judged.items():
        for kind, numbers in kinds.items():
            count = Counter(verdicts[number].verdict for number in numbers)
            asked = len(numbers) - count["cannot"]
            share = f"{count['right']} of {asked} ({count['right'] / asked:.0%})"
            missed = f"{count['stale']} | {count['for nothing']} | {count['cannot']}"
            lines.append(f"| {PEERS[peer]}: {kind} | {len(numbers)} | {share} | {missed} |")
    return "\n".join(lines)


def wrong(pairs: dict[str, Pair], judged: dict[str, dict[str, Judged]]) -> str:
    """The pairs that each gets wrong or cannot express."""
    lines: list[str] = []
    for peer, verdicts in judged.items():
        lines.append(f"### {PEERS[peer]}\n")
        told = {"stale": "serves stale silently", "for nothing": "re-runs for nothing", "cannot": "cannot express"}
        for verdict, title in told.items():
            found = [(pairs[number].name, one) for number, one in verdicts.items() if one.verdict == verdict]
            if found:
                lines.append(f"{title}:\n")
                lines += [f"- {name}{f' ({one.detail})' if one.detail else ''}{_never(one)}" for name, one in found]
                lines.append("")
        if lines[-1].startswith("###"):
            lines.append("nothing\n")
    return "\n".join(lines)


def _never(one: Judged) -> str:
    return " (re-runs when nothing changed, too)" if one.never and one.verdict != "cannot" else ""


def main() -> None:
    """Judges, prints and writes."""
    parser = argparse.ArgumentParser(description="Runs the pairs of tests/drift with nbstep, joblib and marimo.")
    parser.add_argument("--wrong", action="store_true", help="list the pairs that each gets wrong or cannot express")
    options = parser.parse_args()
    pairs = read_pairs()
    judged: dict[str, dict[str, Judged]] = {}
    with tempfile.TemporaryDirectory() as place:
        for peer in PEERS:
            print(f"{peer} …", file=sys.stderr, flush=True)
            folder = Path(place) / peer
            folder.mkdir()
            judged[peer] = judge_nbstep(pairs, folder) if peer == "nbstep" else judge_peer(peer, pairs, folder)
    never = {peer: sum(one.never for one in verdicts.values()) for peer, verdicts in judged.items()}
    text = table(pairs, judged)
    notes = "; ".join(f"{PEERS[peer]} {count}" for peer, count in never.items())
    note = (
        f"Pairs computed again, or called old, where nothing had changed at all (counted above all the same): {notes}."
    )
    print(f"{text}\n\n{note}")
    if options.wrong:
        print(f"\n{wrong(pairs, judged)}")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in PEERS)
    RESULTS.write_text(_page(text, note, versions, wrong(pairs, judged)), encoding="utf-8")


def _page(text: str, note: str, versions: str, lists: str) -> str:
    return f"""# Who notices what changed

The pairs of cells in `tests/drift`, before and after an edit, each with a verdict by its author: is a kept result old now?
Each cell ran, ran again unchanged, and ran after the edit, each time in a new process with another hash seed.
`benchmarks/drift_cells.py` says how a cell of nbstep becomes one of joblib or marimo, by their documentation. What a peer cannot
express is counted apart.

{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, `python benchmarks/drift.py`: {versions}, Python {platform.python_version()}.

{text}

{note}

nbstep uses a kept value and says what changed, or runs again where it is asked to; "right" is that it said so, or rightly said
nothing. The corpus was written to test nbstep, so that it gets all of it right says little; what the peers miss, and what they
run again for, says more.

## What each gets wrong

{lists.rstrip()}
"""


if __name__ == "__main__":
    main()
