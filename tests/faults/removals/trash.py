"""What is deleted waits in the trash and comes back whole; what other processes do meanwhile loses nothing."""

from __future__ import annotations

from typing import Final

from faults.removals.removal import Removal

TRASH: Final = (
    Removal(
        "deleted-by-copying",
        "what is deleted is copied to the trash",
        "stores/disktrash.py",
        "            files.move(entry, target)\n",
        "            content = open(entry, 'rb').read()\n"
        "            fd = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)\n"
        "            os.write(fd, content)\n            os.close(fd)\n            os.unlink(entry)\n",
        ("killed::dies_at_any_call[delete]", "killed::dies_at_any_call[clear]", "killed::dies_at_any_call[gc]"),
    ),
    Removal(
        "deleted-for-good",
        "deleting is for good",
        "stores/disktrash.py",
        "return self.in_room(lambda: self._move(entry, self._target(entry, batch)), batch)",
        "return files.remove(entry)",
        (
            "killed::dies_at_any_call[delete]",
            "nth_call::no_entry_is_lost[delete-open]",
            "processes::the_same_keys[4-own and shared keys]",
        ),
    ),
    Removal(
        "cleared-for-good",
        "`clear` is for good",
        "stores/disk.py",
        "return len(self._take([self._path(name) for name in self._all()], batch))",
        "return sum(map(files.remove, [self._path(name) for name in self._all()]))",
        ("killed::dies_at_any_call[clear]", "nth_call::no_entry_is_lost[clear-open]"),
    ),
    Removal(
        "unused-for-good",
        "unused entries go for good",
        "cache/upkeep.py",
        "await entries.local.remove_spots([use.spot for use in old], batch)",
        "await entries.local.evict([use.spot for use in old], ())",
        ("killed::dies_at_any_call[gc]",),
    ),
    Removal(
        "undone-by-copying",
        "`undo` copies into place",
        "stores/disktrash.py",
        "moved = files.move_first(trashed, target)",
        "fd = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)\n"
        "        os.write(fd, open(trashed, 'rb').read())\n        os.close(fd)\n        moved = files.remove(trashed)",
        ("killed::dies_at_any_call[undo]",),
    ),
    Removal(
        "undo-overwrites",
        "`undo` overwrites what stands there",
        "stores/replacing.py",
        "saved = self._trash.save_copy(target, batch)",
        "saved = None",
        ("killed::dies_at_any_call[undo a]", "nth_call::no_entry_is_lost[undo a-open]"),
    ),
    Removal(
        "unlistable-is-empty",
        "a folder that cannot be listed is empty",
        "stores/files.py",
        "    except (FileNotFoundError, NotADirectoryError):  # another process took it away in this moment\n        return []",
        "    except OSError:\n        return []",
        ("nth_call::no_entry_is_lost[clear-listdir]",),
    ),
    Removal(
        "unread-is-remembered",
        "a header that could not be read once is remembered so",
        "cache/headers.py",
        "row, complete = (None, None), False",
        "row = (self._store.stamp(address), None)",
        ("nth_call::no_entry_is_lost[keys-read]", "nth_call::no_entry_is_lost[keys-open]"),
    ),
    Removal(
        "undo-of-a-key",
        "`undo` of a key gives its first entry, not its last",
        "stores/disktrash.py",
        "for unit in _newest_first(items)[back - 1 : back]",
        "for unit in _newest_first(items)[-1:]",
        ("model::does_what_a_dict_with_a_trash_would[disk]",),
    ),
    Removal(
        "undo-of-a-key-in-memory",
        "`undo` of a key gives its first entry, not its last, in memory",
        "stores/memorytrash.py",
        "chosen = [of_key[-back]]",
        "chosen = [of_key[0]]",
        ("model::does_what_a_dict_with_a_trash_would[memory]",),
    ),
    Removal(
        "undo-of-a-batch",
        "`undo` of a batch gives the newest of two entries of one key, not the one from before",
        "stores/disktrash.py",
        "oldest.setdefault(item.name, item)",
        "oldest[item.name] = item",
        ("model::does_what_a_dict_with_a_trash_would[disk]",),
    ),
    Removal(
        "undo-of-a-batch-in-memory",
        "`undo` of a batch gives the newest of two entries of one key, not the one from before, in memory",
        "stores/memorytrash.py",
        "oldest.setdefault(item.key, item)",
        "oldest[item.key] = item",
        ("model::does_what_a_dict_with_a_trash_would[memory]",),
    ),
    Removal(
        "globs-ignore-case",
        "globs ignore case",
        "cache/entries.py",
        "if fnmatch.fnmatchcase(key, pattern)",
        "if fnmatch.fnmatchcase(key.lower(), pattern.lower())",
        ("model::does_what_a_dict_with_a_trash_would[memory]",),
    ),
    Removal(
        "nothing-to-save",
        "what is gone when it is to be saved is an error",
        "stores/disktrash.py",
        "            os.lstat(entry)\n        except FileNotFoundError:",
        "            os.lstat(entry)\n        except ZeroDivisionError:",
        ("processes::a_moment_too_late[undo]", "processes::a_moment_too_late[undo what goes for good]"),
    ),
)
