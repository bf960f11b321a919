"""What the run log says: runs, their steps and findings, and the use of one key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """One step of a logged run: `got` is "hit", "ran", "refused" or "asked" (it never ended); times are seconds since the epoch.

    `drift` is what had changed since the value was kept that a hit used; `site` tells which call asked;
    `kept` is False for a value that was not. `why` says more of a miss than its reason, or why a hit
    stands in for a refetch; `seen` holds today's fingerprints
    of a step that drifted, signed.
    """

    key: str
    got: str
    outcome: str
    at: float
    took_s: float
    saved_s: float
    reason: str | None = None
    drift: str | None = None
    site: str | None = None
    kept: bool = True
    why: str | None = None
    seen: str | None = None

    def is_new(self) -> bool:
        """Whether it ran because its key was new."""
        return self.got == "ran" and self.reason == "new"


@dataclass(frozen=True, slots=True)
class LoggedFinding:
    """One line that a logged run had for people."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One run of the log; `notebook` and `name` are labels, None where unknown; `root` is the outermost run around it.

    `text` is the digest of its cell's text.
    """

    run: str
    root: str
    at: float
    name: str | None
    notebook: str | None
    steps: tuple[LoggedStep, ...]
    findings: tuple[LoggedFinding, ...] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the logged runs say of one key: `last_used` is seconds since the epoch, `last_reason` why it last missed.

    `drift` is what had changed when it was last used, at `drift_at`: it says nothing of an entry kept later. `seen` are the
    fingerprints of then, signed. `last_got` is what its last look-up got, as in `LoggedStep`, `last_why` more of why it missed.
    `notebooks` are those whose runs asked for it.
    """

    hits: int = 0
    saved_s: float = 0.0
    last_used: float = 0.0
    last_reason: str | None = None
    drift: str | None = None
    drift_at: float = 0.0
    seen: str | None = None
    last_got: str = ""
    last_why: str | None = None
    notebooks: frozenset[str] = frozenset()

    def drift_since(self, created: float, accepted: float | None) -> str | None:
        """What had changed when an entry was last used, unless it was kept or accepted since."""
        news = self.drift_at >= created and (accepted is None or self.drift_at > accepted)
        return self.drift if news else None
