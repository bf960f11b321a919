"""A server of the user's own that does not answer, and a disk that takes no name any more."""

from __future__ import annotations

from typing import Final

from faults.removals.removal import Removal

SERVERS: Final = (
    Removal(
        "asked-all-the-same",
        "steps ask a store that did not answer a moment ago",
        "cache/entries.py",
        "        if not insist and (resting := self.why_resting()) is not None:\n"
        '            return Miss("unreadable", resting)\n        signing_key',
        "        signing_key",
        (
            "rare_errors::is_left_alone_by_steps[reset]",
            "rare_errors::a_frozen_redis",
            "rare_errors::an_async_store_that_does_not_answer",
        ),
    ),
    Removal(
        "kept-all-the-same",
        "steps keep in a store that did not answer a moment ago",
        "cache/entries.py",
        "        if not insist and (resting := self.why_resting()) is not None:\n"
        '            return NotKept(resting, "unreachable")\n        try:',
        "        try:",
        ("rare_errors::is_left_alone_by_steps[timeout]",),
    ),
    Removal(
        "rests-for-ever",
        "an answer does not end the rest of a store",
        "stores/given.py",
        "self._breaker.answered()",
        "pass",
        ("rare_errors::is_left_alone_by_steps[reset]",),
    ),
    Removal(
        "asked-no-more",
        "a store that did not answer is not asked again after a while",
        "stores/breaker.py",
        "        if since_s >= failure.rest_s:\n            return None\n",
        "",
        ("rare_errors::a_frozen_redis",),
    ),
    Removal(
        "any-error-rests",
        "a store that refuses one entry is left alone",
        "stores/breaker.py",
        "        if did_not_answer(error):\n",
        "        if True:\n",
        ("rare_errors::that_refuses_one_entry",),
    ),
    Removal(
        "never-rests",
        "a store that refuses the connection counts as one that answers",
        "stores/breaker.py",
        "        if did_not_answer(error):\n",
        "        if did_not_answer(error) and 'refused' not in str(error):\n",
        ("rare_errors::a_redis_that_is_not_there",),
    ),
    Removal(
        "cause-unseen",
        "the cause of a driver's error is not looked at",
        "stores/breaker.py",
        "        at = at.__cause__ or at.__context__",
        "        at = None",
        ("rare_errors::is_left_alone_by_steps[driver]",),
    ),
    Removal(
        "offline-rests",
        "offline does not ask a store that did not answer a moment ago",
        "steps/take.py",
        'insist=call.run.mode == "offline"',
        "insist=False",
        ("rare_errors::offline_asks_a_store",),
    ),
    Removal(
        "unreachable-each-time",
        "each step says that the store does not answer",
        "runs/state.py",
        'self.find("unreachable", None, line, once=True)',
        'self.find("unreachable", None, line)',
        ("rare_errors::that_dies_while_a_step_computes",),
    ),
    Removal(
        "secret-of-a-store",
        "what is said of a store that does not answer is not redacted",
        "cache/entries.py",
        "            return self._keeper.redacted(line)",
        "            return line",
        ("rare_errors::holds_no_secret[works]", "rare_errors::holds_no_secret[fails]"),
    ),
    Removal(
        "no-room-for-a-name",
        "a disk without room for one more name deletes nothing",
        "stores/disktrash.py",
        "        return self._lose(entry, batch)",
        "        raise OSError(28, os.strerror(28))",
        ("nth_call::takes_no_name_at_all[28]", "surroundings::one_more_name_still_deletes"),
    ),
    Removal(
        "lost-untold",
        "nobody is told that what was deleted is gone for good",
        "cache/entries.py",
        "        if deleted.lost:\n",
        "        if False:\n",
        ("nth_call::takes_no_name_at_all[28]",),
    ),
    Removal(
        "lost-unmarked",
        "another kernel does not say that what was deleted is gone for good",
        "stores/disktrash.py",
        "                files.write_file(self._lost_mark, [], durable=False)",
        "                pass",
        ("nth_call::takes_no_name_at_all[28]", "surroundings::one_more_name_still_deletes"),
    ),
    Removal(
        "own-batch-emptied",
        "a full disk empties the trash of the very command that deletes",
        "stores/disktrash.py",
        "[item for item in self._items() if item.batch != own]",
        "list(self._items())",
        ("nth_call::takes_no_name_at_all[28]",),
    ),
)
