"""What was taken out of nbstep to see each fault test fail: the table of `removed.py`, one module a part of nbstep."""

from __future__ import annotations

from typing import Final

from faults.removals.entry import ENTRY
from faults.removals.processes import PROCESSES
from faults.removals.redis import REDIS
from faults.removals.removal import Removal as Removal
from faults.removals.servers import SERVERS
from faults.removals.signing import SIGNING
from faults.removals.surroundings import SURROUNDINGS
from faults.removals.trash import TRASH
from faults.removals.writing import WRITING

REMOVALS: Final[tuple[Removal, ...]] = (*ENTRY, *WRITING, *TRASH, *PROCESSES, *SIGNING, *SURROUNDINGS, *SERVERS, *REDIS)
