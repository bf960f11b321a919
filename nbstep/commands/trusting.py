"""The verb `trust`: entries that somebody else signed become one's own, and a new key takes the place of the old."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from nbstep.cache.acceptance import Accepted, Offer
from nbstep.cache.cache import Cache
from nbstep.cache.trust import Rotation
from nbstep.commands.line import Arguments, CommandOutcome, UsageError
from nbstep.commands.listing import rows_of, settled
from nbstep.commands.tables import Screen, table_text
from nbstep.durations import size_text
from nbstep.project import place_text
from nbstep.words import keys_text, plural, shown

_ROWS: Final = 50
_WARNING: Final = "Accepting lets these files run code as you, as soon as a step asks for their keys."
_ROTATING: Final = (
    "A new signing key: entries of yours in {place} are signed anew and its trash is emptied; those of your other caches "
    "become untrusted, and running kernels go on with the old key until they are restarted."
)


async def accept_entries(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Shows what would be accepted; accepts it where somebody says yes, or `-y`."""
    if "--rotate" in arguments.options:
        return await _rotate(cache, arguments, screen)
    pattern = arguments.words[0] if arguments.words else "*"
    offered: Offer = await settled(cache.untrusted(pattern, key_file=arguments.options.get("--key-file")))
    if not offered.entries:
        return _nothing_offered(cache, offered, arguments)
    text = f"{_offer_text(cache, offered, screen)}\n\n{_WARNING}"
    if not arguments.yes:
        refusal = _unless_agreed(text, arguments, screen)
        if refusal is not None:
            return refusal
        text = ""
    accepted: Accepted = await settled(cache.trust(offered, progress=screen.progress("signing")))
    done = _accepted_text(accepted, "Accepted")
    return CommandOutcome(f"{text}\n\n{done}".strip(), exit_code=int(bool(accepted.refused)))


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
    return CommandOutcome("\n".join(lines), exit_code=int(bool(accepted.refused)))


def _offer_text(cache: Cache, offered: Offer, screen: Screen) -> str:
    counted = plural(len(offered.entries), "entry", "entries")
    signers = ", ".join(f"{count:,} by key {shown(signer)}" for signer, count in offered.signers.items())
    head = f"{counted} in {shown(cache.place)}, {size_text(offered.size_bytes)}, signed by others: {signers}"
    if offered.left_out:
        head += f"\n{_left_out_text(offered)}"
    rows = rows_of([one.meta for one in offered.entries], {})
    now = time.time()
    return f"{head}\n\n{table_text(rows, replace(screen, max_rows=_ROWS), now)}"


def _left_out_text(offered: Offer) -> str:
    why = "your own or a newer entry has their key"
    if offered.signed_by is not None:
        why += f", or key {offered.signed_by.id} did not sign them"
    return f"{plural(offered.left_out, 'more entry', 'more entries')} of others would stay as they are: {why}."


def _nothing_offered(cache: Cache, offered: Offer, arguments: Arguments) -> CommandOutcome:
    what = f" under {shown(arguments.words[0])}" if arguments.words else ""
    text = f"Nothing to accept in {shown(cache.place)}{what}."
    if offered.left_out:
        text += f" {_left_out_text(offered)}"
    asked_for_some = bool(arguments.words or offered.signed_by)
    return CommandOutcome(text, exit_code=int(asked_for_some))


def _unless_agreed(text: str, arguments: Arguments, screen: Screen) -> CommandOutcome | None:
    """What to say where nobody agreed; None where somebody did."""
    if screen.ask is None:
        words = ["trust", *([arguments.folder] if arguments.folder else []), *arguments.words]
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
    named = f": {keys_text([shown(key) for key in accepted.keys])}" if accepted.keys else ""
    lines = [f"{verb} {counted}{named}."]
    lines += [f"  ✕ {shown(key)} was left as it is: {shown(why)}" for key, why in accepted.refused]
    return "\n".join(lines)
