"""The environment variables nbstep reads, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

Mode: TypeAlias = Literal["normal", "refresh", "offline"]
EnvironmentMode: TypeAlias = Literal["normal", "refresh", "offline", "off"]
MODES: Final[tuple[str, ...]] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for.

    Attributes:
        directory: `NBSTEP_DIR`, the cache directory, or None.
        mode: `NBSTEP_MODE`.
        retry_errors: `NBSTEP_RETRY_ERRORS`: kept errors run again.
    """

    directory: str | None = None
    mode: EnvironmentMode = "normal"
    retry_errors: bool = False


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the environment as it is now.

    Raises:
        ValueError: `NBSTEP_MODE` is none of normal, refresh, offline, off.

    >>> read_settings({"NBSTEP_MODE": "offline"}).mode
    'offline'
    """
    environ = os.environ if environ is None else environ
    mode = environ.get("NBSTEP_MODE", "").strip() or "normal"
    if mode not in get_args(EnvironmentMode):
        raise ValueError(f"NBSTEP_MODE={mode!r}: use normal, refresh, offline or off")
    return Settings(
        directory=environ.get("NBSTEP_DIR", "").strip() or None,
        mode=cast("EnvironmentMode", mode),
        retry_errors=environ.get("NBSTEP_RETRY_ERRORS", "").strip().lower() in {"1", "true", "yes", "on"},
    )
