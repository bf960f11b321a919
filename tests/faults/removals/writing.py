"""How an entry comes to its place: written whole beside it, saved before it is replaced, nothing left where that fails."""

from __future__ import annotations

from typing import Final

from faults.removals.removal import Removal

_PUT: Final = "            self._trash.in_room(lambda: self._replacing.put(temp, target, batch), batch)\n"
_PUT_IN_PLACE: Final = """\
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for part in parts:
                os.write(fd, part)
            os.close(fd)
            files.remove(temp)
"""

WRITING: Final = (
    Removal(
        "written-in-place",
        "entries are written in place",
        "stores/disk.py",
        _PUT,
        _PUT_IN_PLACE,
        (
            "killed::dies_at_any_call[keep]",
            "killed::dies_at_any_call[keep over]",
            "forks_and_maps::an_array_that_is_mapped[replace]",
            "processes::the_same_keys[4-own and shared keys]",
        ),
    ),
    Removal(
        "replaced-unsaved",
        "what is replaced is not saved in the trash",
        "stores/replacing.py",
        'saved = self._trash.save_copy(target, batch or "")',
        "saved = None",
        (
            "killed::dies_at_any_call[keep over]",
            "killed::dies_at_any_call[step]",
            "processes::a_moment_too_late[replace, replaced]",
        ),
    ),
    Removal(
        "twin-stays",
        "the twin in the trash of what was about to be replaced counts as an entry before it",
        "stores/replacing.py",
        "if self._trash.drop_twin(trashed, target):",
        "if False:",
        ("killed::dies_at_any_call[keep over]", "killed::dies_at_any_call[step]"),
    ),
    Removal(
        "saved-not-put-back",
        "what was saved stays in the trash where replacing it failed",
        "stores/replacing.py",
        "                if saved is not None:\n                    self._trash.put_back(saved, target)\n                raise",
        "                raise",
        ("nth_call::the_value_arrives_whatever[over an old one-replace]",),
    ),
    Removal(
        "temp-stays",
        "the temporary file stays where it could not be moved",
        "stores/disk.py",
        "            files.remove(temp)\n            if isinstance(error, OSError)",
        "            if isinstance(error, OSError)",
        ("nth_call::the_value_arrives_whatever[over an old one-replace]", "rare_errors::a_cache_on_two_disks"),
    ),
    Removal(
        "part-stays",
        "the part of a file that was written stays",
        "stores/files.py",
        "    except BaseException:\n        remove(path)\n        raise",
        "    except BaseException:\n        raise",
        ("rare_errors::beyond_what_a_file_may_hold", "nth_call::the_value_arrives_whatever[new value-write]"),
    ),
    Removal(
        "close-error",
        "an error of `close` is ignored",
        "stores/files.py",
        "            os.close(fd)  # an error here counts",
        "            with contextlib.suppress(OSError): os.close(fd)  # an error here counts",
        ("nth_call::an_error_on_closing[large-close]", "nth_call::an_error_on_closing[small-close]"),
    ),
    Removal(
        "fsync-error",
        "an error of `fsync` is ignored",
        "stores/files.py",
        "            if durable:\n                os.fsync(fd)",
        "            if durable:\n                with contextlib.suppress(OSError): os.fsync(fd)",
        ("nth_call::an_error_on_closing[large-fsync]", "nth_call::an_error_on_closing[error-fsync]"),
    ),
    Removal(
        "room-unreserved",
        "room is not reserved first",
        "stores/files.py",
        "_reserve(fd, total)",
        "pass",
        ("rare_errors::beyond_what_a_file_may_hold",),
    ),
    Removal(
        "cannot-reserve",
        "a file system that cannot reserve room keeps nothing",
        "stores/files.py",
        "        if error.errno in {*FULL, errno.EFBIG}:\n            raise",
        "        raise",
        ("rare_errors::that_cannot_reserve_room",),
    ),
    Removal(
        "cannot-reserve-einval",
        "only EOPNOTSUPP says that room cannot be reserved",
        "stores/files.py",
        "        if error.errno in {*FULL, errno.EFBIG}:\n            raise",
        "        if error.errno != errno.EOPNOTSUPP:\n            raise",
        ("rare_errors::that_cannot_reserve_room",),
    ),
    Removal(
        "keep-raises",
        "`keep` raises what the store raised",
        "cache/entries.py",
        "except BaseException as error:  # noqa: BLE001 - a cache that fails must not cost the user the value",
        "except ZeroDivisionError as error:",
        ("rare_errors::is_left_alone_by_steps[timeout]",),
    ),
    Removal(
        "look-up-raises",
        "`look_up` raises what the store raised",
        "cache/entries.py",
        "except BaseException as error:  # noqa: BLE001 - the user's own store may raise anything",
        "except ZeroDivisionError as error:",
        ("rare_errors::whose_handle_is_stale[True]", "rare_errors::a_frozen_redis"),
    ),
    Removal(
        "tidying-raises",
        "an error of tidying up is one of keeping",
        "stores/disk.py",
        "with suppress(OSError):  # tidying up can wait",
        "with suppress(ZeroDivisionError):  # tidying up can wait",
        ("nth_call::the_value_arrives_whatever[over an old one-listdir]",),
    ),
    Removal(
        "evicts-first",
        "entries are evicted before the trash is emptied",
        "cache/entries.py",
        "        await self.local.empty_trash()\n        excess = await",
        "        excess = await",
        ("nth_call::the_value_arrives_whatever[evicting-write]",),
    ),
    Removal(
        "evicts-nothing",
        "nothing is evicted",
        "cache/entries.py",
        "await self.local.evict([use.spot for use in chosen], keys)",
        "pass",
        ("surroundings::evicting_goes_on",),
    ),
    Removal(
        "lock-error-escapes",
        "an error of a lock escapes",
        "stores/locks.py",
        "        except OSError:\n            return KeyLock()\n        except Base",
        "        except ZeroDivisionError:\n            return KeyLock()\n        except Base",
        ("nth_call::the_value_arrives_whatever[new value-flock]",),
    ),
    Removal(
        "stale-handle",
        "what has a stale handle is not opened once more",
        "stores/documents.py",
        "if error.errno == errno.ESTALE and attempt == 1:",
        "if False:",
        ("rare_errors::whose_handle_is_stale[False]",),
    ),
    Removal(
        "full-unsaid",
        "the message of a full disk does not speak of room",
        "stores/disk.py",
        "if isinstance(error, OSError) and error.errno in files.FULL:",
        "if False:",
        ("nth_call::the_value_arrives_whatever[over an old one-replace]",),
    ),
    Removal(
        "full-unsaid-writing",
        "the message does not speak of room where there is none to write a file",
        "stores/disk.py",
        "                if attempt == 2 or not self._trash.empty():\n                    raise self._no_room(size) from error",
        "                if attempt == 2 or not self._trash.empty():\n                    raise",
        ("surroundings::without_room_for_one_more_file",),
    ),
    Removal(
        "untold-entries",
        "an entry that the system does not tell of is left out",
        "stores/disk.py",
        "                found.append(Spot(name, name[65:]))",
        "                continue",
        ("nth_call::verify_counts_every_entry_or_says_that_it_cannot[lstat]",),
    ),
    Removal(
        "hit-writes",
        "a hit writes into the cache",
        "stores/disk.py",
        '        return documents.open_document(self._path(f"{key_digest(key)}.{signer}"), self._may_map)',
        '        files.write_file(f"{self._temps}/{files.temp_name()}", [], durable=False)\n'
        '        return documents.open_document(self._path(f"{key_digest(key)}.{signer}"), self._may_map)',
        (
            "surroundings::over_a_read_only_cache[without permission]",
            "surroundings::over_a_read_only_cache[mounted read-only]",
        ),
    ),
)
