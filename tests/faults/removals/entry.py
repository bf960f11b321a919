"""What makes an entry one: its signature, its digests, its length, the key it names."""

from __future__ import annotations

from typing import Final

from faults.removals.removal import Removal

ENTRY: Final = (
    Removal(
        "stream-digest",
        "the digest of the pickle stream is not checked",
        "cache/entry.py",
        "if _digest(stream) != stream_section.digest:",
        "if False:",
        (
            "every_byte::every_flipped_byte[value]",
            "every_byte::a_step_over_a_spoilt_entry[last-value]",
            "swapped::part_of_one_entry_in_another",
        ),
    ),
    Removal(
        "buffer-digest",
        "the digests of buffers are not checked",
        "cache/entry.py",
        " or _digest(buffer) != section.digest:",
        ":",
        (
            "every_byte::every_flipped_byte[with a buffer]",
            "forks_and_maps::a_file_changed_between",
            "redis::a_piece_that_is_not_the_entrys_own[flipped]",
        ),
    ),
    Removal(
        "zeros-between",
        "the zeros between stream and buffers are not checked",
        "cache/entry.py",
        "if any(document.read(end, section.at - end)) or",
        "if",
        ("every_byte::every_flipped_byte[with a buffer]",),
    ),
    Removal(
        "signature",
        "the signature is not checked",
        "cache/entry.py",
        "trusted = key.verifies(_PURPOSE, header.signed, header.mac)",
        "trusted = True",
        (
            "every_byte::every_flipped_byte[value]",
            "every_byte::a_step_over_a_spoilt_entry[signature-value]",
            "swapped::an_entry_renamed_to_my_signature",
            "redis::is_never_unpickled[another_signer]",
        ),
    ),
    Removal(
        "length",
        "where the file must end is not checked",
        "cache/entry.py",
        "if last.at + last.size != head.meta.size_bytes:",
        "if False:",
        ("every_byte::every_length_but_its_own[value]", "every_byte::what_only_claims[twice]"),
    ),
    Removal(
        "magic",
        "the magic is not checked",
        "cache/entry.py",
        "if not prefix.startswith(MAGIC):",
        "if False:",
        ("every_byte::what_only_claims[a plain pickle]", "every_byte::what_only_claims[another version]"),
    ),
    Removal(
        "header-limit",
        "the header's length has no limit",
        "cache/entry.py",
        "if length > HEADER_BYTES_AT_MOST:",
        "if False:",
        ("every_byte::what_only_claims[a huge header]",),
    ),
    Removal(
        "key-in-header",
        "the key in the header is not compared",
        "cache/entries.py",
        "if meta.key != key:",
        "if False:",
        ("swapped::in_the_place_of_another[cold-swapped]", "swapped::in_the_place_of_another[cold-copied]"),
    ),
    Removal(
        "hot-stamp",
        "the hot tier does not look at the stamp",
        "cache/hot.py",
        " or self._store.stamp(hot.address) != hot.stamp:",
        ":",
        (
            "swapped::in_the_place_of_another[hot-swapped]",
            "swapped::an_older_version_put_back",
            "processes::the_same_keys[4-own and shared keys]",
        ),
    ),
    Removal(
        "spoilt-untold",
        "no finding tells of a spoilt entry",
        "steps/telling.py",
        'elif why.reason in {"unreadable", "incompatible"} and why.detail:',
        "elif False:",
        ("every_byte::a_step_over_a_spoilt_entry[first-value]", "swapped::in_the_place_of_another[cold-swapped]"),
    ),
    Removal(
        "spoilt-stays",
        "what stands in the place of an entry is never replaced",
        "stores/replacing.py",
        "        if files.move_first(source, target):\n            return\n        with",
        "        if files.move_first(source, target) is not None:\n            return\n        with",
        ("every_byte::a_step_over_a_spoilt_entry[first-value]",),
    ),
    Removal(
        "clear-by-header",
        "`clear` leaves what it cannot read",
        "cache/entries.py",
        "count = await self.store.remove_all(batch)",
        "count = len(await self.store.remove(list(keys), batch))",
        ("every_byte::what_only_claims[no header]",),
    ),
    Removal(
        "bound-to-a-folder",
        "an entry counts only where it was written",
        "stores/disk.py",
        '        return f"{self._entries}/{name[:2]}/{name}"',
        "        turn = 2 + len(self._entries) % 62\n        name = name[:2] + name[turn:64] + name[2:turn] + name[64:]\n"
        '        return f"{self._entries}/{name[:2]}/{name}"',
        ("swapped::an_entry_of_another_cache_of_mine",),
    ),
)
