"""What one look at all entries found, and what changed since an earlier one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

from nbstep.cache.catalog import Listed, Row
from nbstep.cache.records import Meta
from nbstep.collecting import no_collections


@dataclass(frozen=True, slots=True)
class Look:
    """The entries of a store by groups; a group in which nothing changed is the same object in the next look."""

    groups: tuple[Listed, ...] = ()

    def metas(self) -> list[Meta]:
        """The metadata of all entries whose header can be read, oldest first."""
        with no_collections():
            found = [meta for group in self.groups for _, meta in group.rows.values() if meta is not None]
            found.sort(key=attrgetter("created"))
            if len({meta.created for meta in found}) < len(found):  # rarely: comparing pairs takes three times as long
                found.sort(key=attrgetter("created", "key"))
            return found

    def since(self, before: Look) -> dict[str, list[Meta]]:
        """By each key of which an entry came, went or was replaced, what there is of it now."""
        earlier = {group.name: group for group in before.groups}
        changed: dict[str, list[Meta]] = {}
        for group in self.groups:
            known = earlier.pop(group.name, None)
            if known is not group:
                _note_changes(changed, {} if known is None else known.rows, group)
        for gone in earlier.values():
            changed |= {meta.key: [] for _, meta in gone.rows.values() if meta is not None}
        return changed


def _note_changes(changed: dict[str, list[Meta]], before: Mapping[str, Row], group: Listed) -> None:
    differ = {address for address, row in group.rows.items() if before.get(address) != row}
    told = (*(group.rows[address] for address in differ), *(before[a] for a in before.keys() - group.rows.keys()))
    was = (before[address] for address in differ if address in before)
    keys = {meta.key for _, meta in (*told, *was) if meta is not None}
    if keys:
        changed |= {key: [] for key in keys}
        for _, meta in group.rows.values():
            if meta is not None and meta.key in keys:
                changed[meta.key].append(meta)
