"""The verb `accept`: old values that are still good count as made by the code and the inputs of today, without running anything."""

from __future__ import annotations

import time

from nbstep.cache.acceptance import Accepted
from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.upkeep import check_key_lasts
from nbstep.commands.line import Arguments, CommandOutcome, command_text
from nbstep.commands.listing import list_rows, settled
from nbstep.commands.naming import rows_named
from nbstep.commands.removal import nothing_called, nothing_matches
from nbstep.commands.tables import Screen
from nbstep.words import keys_text, natural_order, plural, shown


async def accept(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Accepts the old values that its words name, as one batch."""
    check_key_lasts()
    rows = await list_rows(cache)
    named = rows_named(arguments.words, rows, time.time())
    if named.unknown:
        return nothing_called(named.unknown, rows, screen)
    if not named.rows:
        return nothing_matches(arguments.words, screen)
    accepted: Accepted = await settled(cache.renew({row.key: row.key in named.exactly for row in named.rows}))
    if not accepted.keys and not accepted.refused:
        words = ", ".join(map(shown, arguments.words))
        return CommandOutcome(f"No value under {words} is known to be old: there is nothing to accept.", exit_code=1)
    undo = f" Undo: {command_text('undo', [], arguments, screen)}"
    record = {"keys": [*accepted.keys], "refused": dict(accepted.refused)}
    return CommandOutcome(accepted_text(accepted, undo), exit_code=int(bool(accepted.refused)), record=record)


def accepted_text(accepted: Accepted, undo: str = "") -> str:
    """What became of it, a line for each that was refused."""
    keys = sorted(map(key_text, accepted.keys), key=natural_order)
    lines = [f"Accepted {plural(len(keys), 'old value')}: {keys_text(keys)}.{undo}"] if keys else []
    lines += [
        f"{key_text(key)} was left as it is: {shown(why)}."
        for key, why in sorted(accepted.refused, key=lambda refused: natural_order(refused[0]))
    ]
    return "\n".join(lines)
