"""Tracebacks as the user wants them: their own frames, none of nbstep's."""

from __future__ import annotations

import asyncio
import dis
import os
import sysconfig
from collections.abc import Callable
from itertools import zip_longest
from types import CodeType, TracebackType
from typing import Final

from nbstep.foreign import members, own, within

OWN_FOLDER: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STDLIB: Final = sysconfig.get_path("stdlib") + os.sep
_SITE: Final = tuple({sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep})
_ANYWHERE: Final = (KeyboardInterrupt, asyncio.CancelledError)
# What runs steps for us, and what our stores stand on.
_MACHINERY: Final = ("joblib", "distributed", "redis", "fsspec", "s3fs", "aiobotocore", "botocore")
_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def is_installed(file: object) -> bool:
    """Whether a file belongs to Python or to an installed package; a class of the notebook has none."""
    if not isinstance(file, str):
        return False
    return file.startswith((_STDLIB, *_SITE)) or "site-packages" in file or "dist-packages" in file


def trim(error: BaseException, owned: Callable[[BaseException], bool]) -> None:
    """Takes nbstep's frames, and what the standard library did between them, out of an exception and its chain, in place.

    Args:
        error: The exception about to be shown.
        owned: Whether a step raised this very exception (a kept one is raised from within nbstep).
    """
    for one in within(error, _linked):
        first: TracebackType | None = own(one, "__traceback__")
        if first is not None and (owned(one) or not _is_our_bug(one, first)):
            # Not by assignment: some exceptions are frozen dataclasses.
            BaseException.with_traceback(one, _without_ours(first, issubclass(type(one), _ANYWHERE)))


def of_the_user(error: BaseException) -> BaseException | None:
    """An error that came by the user's own code; None where Python or a package raised it for us: its frames tell nothing more."""
    entry: TracebackType | None = own(error, "__traceback__")
    while entry is not None:
        code = entry.tb_frame.f_code
        if not _is_ours(code) and not is_installed(code.co_filename):
            return error
        entry = entry.tb_next
    return None


def without_first(error: BaseException) -> None:
    """Takes the first frame, that of our function which lets the exception through with a bare `raise`, out of it."""
    first: TracebackType | None = own(error, "__traceback__")
    if first is not None:
        BaseException.with_traceback(error, first.tb_next)


def _linked(one: BaseException) -> list[BaseException]:
    """Its cause, its context and the members of a group."""
    return [linked for linked in (own(one, "__cause__"), own(one, "__context__"), *members(one)) if linked is not None]


def _is_our_bug(error: BaseException, last: TracebackType) -> bool:
    """It began in nbstep's own code, and not at a `raise`: then its frames are what a report needs."""
    while last.tb_next is not None:
        last = last.tb_next
    if not _is_ours(last.tb_frame.f_code) or issubclass(type(error), _ANYWHERE):
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE


def _without_ours(first: TracebackType, anywhere: bool) -> TracebackType | None:
    """The rest; None where a task ran a step that was kept, and none of the user's code."""
    entries: list[TracebackType] = []
    entry: TracebackType | None = first
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    kept = _kept(entries, anywhere)
    for one, following in zip_longest(kept, kept[1:]):
        one.tb_next = following
    return kept[0] if kept else None


def _kept(entries: list[TracebackType], anywhere: bool) -> list[TracebackType]:
    """The entries to show; `anywhere` says that it hit whatever ran just then, machinery under our frames included."""
    kept: list[TracebackType] = []
    # Frames of the standard library or a package of ours after one of ours: dropped too if the next frame is ours again.
    between: list[TracebackType] = []
    after_ours = False
    for entry in entries:
        code = entry.tb_frame.f_code
        if _is_ours(code):
            after_ours, between = True, []
        elif after_ours and _is_machinery(code):
            between.append(entry)
        else:
            kept += [*between, entry]
            after_ours, between = False, []
    return kept if anywhere else kept + between


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(OWN_FOLDER)


def _is_machinery(code: CodeType) -> bool:
    name = code.co_filename
    if name.startswith(_SITE):
        return any(name.startswith(f"{site}{package}{os.sep}") for site in _SITE for package in _MACHINERY)
    return name.startswith((_STDLIB, "<frozen "))
