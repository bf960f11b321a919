"""What the run log says of each key, summed up, and remembered while its files stay as they are.

Runs are summed up in blocks of sixteen or so, and a block is remembered by the stamps of its files: a new run, or one that goes
on, makes one block be read again. Where a block ends, the names say: so that none moves when the oldest run is removed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from nbstep.forks import ThreadLock
from nbstep.runlog.folder import LogFile, newest_files
from nbstep.runlog.reading import read_rows
from nbstep.runlog.records import Usage

_BLOCK_FILES: Final = 16
_CACHES_AT_MOST: Final = 4
_KEYS_AT_MOST: Final = 50_000


@dataclass(slots=True)
class _Tally:
    """What some runs, one after another, say of one key."""

    hits: int = 0
    saved_s: float = 0.0
    last_used: float = 0.0
    missed: bool = False
    last_reason: str | None = None
    ended: bool = False
    drift: str | None = None
    drift_at: float = 0.0
    seen: str | None = None
    last_got: str = ""
    last_why: str | None = None
    notebooks: frozenset[str] = frozenset()

    def then(self, later: _Tally) -> _Tally:
        """With what later runs say."""
        return _Tally(
            self.hits + later.hits,
            self.saved_s + later.saved_s,
            max(self.last_used, later.last_used),
            self.missed or later.missed,
            later.last_reason if later.missed else self.last_reason,
            self.ended or later.ended,
            later.drift if later.ended else self.drift,
            later.drift_at or self.drift_at,
            later.seen if later.ended else self.seen,
            later.last_got,
            later.last_why,
            self.notebooks | later.notebooks,
        )


_Block: TypeAlias = tuple[LogFile, ...]


@dataclass(frozen=True, slots=True)
class _Summed:
    blocks: Mapping[_Block, Mapping[str, _Tally]]
    usage: Mapping[str, Usage]


_summed: Final[dict[Path, _Summed]] = {}
_lock: Final = ThreadLock()


def usage(cache_directory: Path) -> Mapping[str, Usage]:
    """What the logged runs say, by key."""
    with _lock:
        before = _summed.pop(cache_directory, None)
        summed = _sum_up(_blocks(reversed(newest_files(cache_directory))), before)
        if sum(map(len, summed.blocks.values())) <= _KEYS_AT_MOST:
            _summed[cache_directory] = summed
            while len(_summed) > _CACHES_AT_MOST:
                del _summed[next(iter(_summed))]
        return summed.usage


def _sum_up(blocks: list[_Block], before: _Summed | None) -> _Summed:
    if before is not None and list(before.blocks) == blocks:
        return before
    known = {} if before is None else before.blocks
    tallies = {block: known[block] if block in known else _tally(block) for block in blocks}
    total: dict[str, _Tally] = {}
    for block in tallies.values():
        for key, tally in block.items():
            before_it = total.get(key)
            total[key] = tally if before_it is None else before_it.then(tally)
    by_key = {
        key: Usage(
            t.hits, t.saved_s, t.last_used, t.last_reason, t.drift, t.drift_at, t.seen, t.last_got, t.last_why, t.notebooks
        )
        for key, t in total.items()
    }  # fmt: skip
    return _Summed(tallies, by_key)


def _blocks(files: Iterable[LogFile]) -> list[_Block]:
    blocks: list[list[LogFile]] = [[]]
    for file in files:
        blocks[-1].append(file)
        if zlib.crc32(file.path.encode("utf-8", "surrogateescape")) % _BLOCK_FILES == 0:
            blocks.append([])
    return [tuple(block) for block in blocks if block]


def _tally(block: _Block) -> dict[str, _Tally]:
    found: dict[str, _Tally] = {}
    for file in block:
        notebook, rows = read_rows(file)
        named = frozenset(() if notebook is None else (notebook,))
        for key, got, _, at, _, saved_s, reason, drift, _, _, why, seen in rows:
            tally = found.get(key)
            if tally is None:
                tally = found[key] = _Tally()
            if got == "hit":
                tally.hits += 1
                tally.saved_s += saved_s
            else:
                tally.missed, tally.last_reason = True, reason
            if at > tally.last_used:
                tally.last_used = at
            if got != "asked":
                tally.ended, tally.drift, tally.seen = True, drift, seen
            tally.last_got, tally.last_why = got, why
            if not named <= tally.notebooks:
                tally.notebooks |= named
            if drift:
                tally.drift_at = at
    return found
