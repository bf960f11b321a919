"""The verb `trust`: entries that somebody else signed become one's own, and a new key takes the place of the old."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from nbstep.cache.acceptance import Accepted, Offer
from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import key_text, redact_text
from nbstep.cache.trust import Rotation
from nbstep.cache.upkeep import check_key_lasts
from nbstep.commands.line import Arguments, CommandOutcome, UsageError, command_text, missing_folder
from nbstep.commands.listing import list_rows, named_rows, rows_of, settled
from nbstep.commands.tables import Screen, table_text
from nbstep.durations import size_text
from nbstep.project import place_text
from nbstep.words import keys_text, natural_order, plural, shown

_ROWS: Final = 50
_WARNING: Final = "Accepting lets these files run code as you, as soon as a step asks for their keys."
_ROTATING: Final = (
    "A new signing key: entries of yours in {place} are signed anew and its trash is emptied; those of your other caches "
    "become untrusted, and running kernels go on with the old key until they are restarted."
)


async def accept_entries(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Shows what would be accepted; accepts it where somebody says yes, or `-y`."""
    check_key_lasts()
    if "--rotate" in arguments.options:
        return await _rotate(cache, arguments, screen)
    pattern = arguments.words[0] if arguments.words else "*"
    offered: Offer = await settled(cache.untrusted(pattern, key_file=arguments.options.get("--key-file")))
    if not offered.entries:
        return await _nothing_offered(cache, offered, arguments, screen)
    text = f"{_offer_text(cache, offered, arguments, screen)}\n\n{_WARNING}"
    if not arguments.yes:
        refusal = _unless_agreed(text, arguments, screen)
        if refusal is not None:
            return replace(refusal, record={"offered": [one.meta.key for one in offered.entries]})
        text = ""
    accepted: Accepted = await settled(cache.trust(offered, progress=screen.progress("signing")))
    done = _accepted_text(accepted, "Accepted")
    return CommandOutcome(f"{text}\n\n{done}".strip(), int(bool(accepted.refused)), record=_record(accepted))


async def _rotate(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    if arguments.words or "--key-file" in arguments.options:
        raise UsageError(f"--rotate stands alone: {screen.command} trust --rotate [-y]")
    text = _ROTATING.format(place=shown(cache.place))
    if not arguments.yes and (refusal := _unless_agreed(text, arguments, screen)) is not None:
        return refusal
    rotation: Rotation
    accepted: Accepted
    rotation, accepted = await settled(cache.rotate_key(progress=screen.progress("signing")))
    kept_in = shlex.quote(shown(place_text(rotation.kept_in)))
    lines = [
        f"Your key is {rotation.new.id} now, it was {rotation.old.id}. {_accepted_text(accepted, 'Signed anew')}",
        f"In each other cache of yours: {screen.command} trust DIR --key-file {kept_in}",
        f"Then remove that file, and restart running kernels: they still sign with {rotation.old.id}.",
    ]
    return CommandOutcome("\n".join(lines), exit_code=int(bool(accepted.refused)), record=_record(accepted))


def _record(accepted: Accepted) -> dict[str, Any]:
    return {"keys": [*accepted.keys], "refused": dict(accepted.refused)}


def _offer_text(cache: Cache, offered: Offer, arguments: Arguments, screen: Screen) -> str:
    counted = plural(len(offered.entries), "entry", "entries")
    signers = ", ".join(f"{count:,} by key {shown(signer)}" for signer, count in offered.signers.items())
    head = f"{counted} in {shown(cache.place)}, {size_text(offered.size_bytes)}, signed by others: {signers}"
    head = "\n".join([head, *_left_out_lines(offered, arguments, screen)])
    rows = rows_of([one.meta for one in offered.entries], {})
    now = time.time()
    return f"{head}\n\n{table_text(rows, replace(screen, max_rows=_ROWS), now)}"


def _left_out_lines(offered: Offer, arguments: Arguments, screen: Screen) -> list[str]:
    """What stays as it is and why; and what deletes that, once the others are accepted."""
    lines: list[str] = []
    if offered.passed_over:
        when = "afterwards" if offered.entries else _them(offered.passed_over)
        delete = command_text("rm --untrusted", arguments.words, arguments, screen)
        lines.append(
            f"{_more(offered.passed_over, offered)} of others {_stay(offered.passed_over)}: an entry of your own or a newer one "
            f"has the same key. Delete {when}: {delete}"
        )
    if offered.signed_by is not None and offered.of_other_signers:
        count = offered.of_other_signers
        why = f"key {offered.signed_by.id} did not sign {_them(count)}"
        lines.append(f"{_more(count, offered)} {_stay(count)}: {why}.")
    return lines


def _more(count: int, offered: Offer) -> str:
    more = "more " if offered.entries else ""
    return plural(count, f"{more}entry", f"{more}entries")


def _stay(count: int) -> str:
    return "stays" if count == 1 else "stay"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


async def _nothing_offered(cache: Cache, offered: Offer, arguments: Arguments, screen: Screen) -> CommandOutcome:
    what = f" under {key_text(arguments.words[0])}" if arguments.words else ""
    left_out = _left_out_lines(offered, arguments, screen)
    problem = None
    if arguments.words and not left_out and not named_rows(await list_rows(cache), arguments.words[0]):
        problem = missing_folder(arguments.words[0])
    text = problem or " ".join([f"Nothing to accept in {shown(cache.place)}{what}.", *left_out])
    asked_for_some = bool(arguments.words or offered.signed_by)
    return CommandOutcome(text, exit_code=int(asked_for_some))


def _unless_agreed(text: str, arguments: Arguments, screen: Screen) -> CommandOutcome | None:
    """What to say where nobody agreed; None where somebody did."""
    if screen.ask is None:
        words = ["trust", *([redact_text(arguments.folder)] if arguments.folder else []), *arguments.words]
        words += [
            word for option, value in arguments.options.items() if option != "--cache" for word in (option, value)
        ]
        again = _command_text([shown(word) for word in words if word], screen)
        return CommandOutcome(f"{text}\nNothing was changed. Do it: {again} -y", exit_code=1)
    if screen.ask(f"{text}\nGo on?"):
        return None
    return CommandOutcome("Nothing was changed.", exit_code=1)


def _command_text(words: Sequence[str], screen: Screen) -> str:
    return f"{screen.command} {shlex.join(words)}"


def _accepted_text(accepted: Accepted, verb: str) -> str:
    counted = plural(len(accepted.keys), "entry", "entries")
    keys = sorted(map(key_text, accepted.keys), key=natural_order)
    named = f": {keys_text(keys)}" if keys else ""
    lines = [f"{verb} {counted}{named}."]
    lines += [
        f"  ✕ {key_text(key)} was left as it is: {shown(why)}"
        for key, why in sorted(accepted.refused, key=lambda refused: natural_order(refused[0]))
    ]
    return "\n".join(lines)
