"""The signing key, and entries that are signed anew: no key and no entry is lost on the way."""

from __future__ import annotations

from typing import Final

from faults.removals.removal import Removal

SIGNING: Final = (
    Removal(
        "old-entry-first",
        "what another signed goes before it is signed anew",
        "cache/acceptance.py",
        "            await store.publish(one.meta.key, own.id,",
        "            await store.evict([one.spot], ())\n            await store.publish(one.meta.key, own.id,",
        ("killed::dies_at_any_call[trust]", "nth_call::signed_anew[trust-write]"),
    ),
    Removal(
        "old-entry-gone",
        "what another signed goes also where signing it anew failed",
        "cache/acceptance.py",
        "            refused.append(",
        "            await store.evict([one.spot], ())\n            refused.append(",
        ("nth_call::signed_anew[trust-write]", "nth_call::signed_anew[rotate-write]"),
    ),
    Removal(
        "old-key-last",
        "the old key is kept after the new one took its place",
        "cache/keyfile.py",
        "            _publish(kept, old)\n            if read",
        "            os.replace(temp, path)\n            _publish(kept, old)\n            temp = _write(path, secret)\n"
        "            if read",
        ("killed::dies_at_any_call[rotate]", "nth_call::signed_anew[rotate-write]"),
    ),
    Removal(
        "new-key-temp",
        "the temporary file of a new key stays where it could not take the old one's place",
        "cache/keyfile.py",
        "        except BaseException:\n            remove(temp)\n            raise",
        "        except BaseException:\n            raise",
        ("nth_call::signed_anew[rotate-replace]",),
    ),
    Removal(
        "key-temp",
        "the temporary file of a key stays",
        "cache/keyfile.py",
        "    finally:\n        remove(temp)",
        "    finally:\n        pass",
        ("nth_call::the_key_is_made[open]",),
    ),
    Removal(
        "key-error-escapes",
        "an error of making the key escapes",
        "cache/trust.py",
        "except (OSError, ValueError) as error:",
        "except ValueError as error:",
        ("nth_call::the_key_is_made[open]", "nth_call::the_key_is_made[write]"),
    ),
    Removal(
        "key-in-place",
        "the first key is written in its place",
        "cache/keyfile.py",
        "    _publish(path, os.urandom(KEY_BYTES))",
        "    write_file(path, [os.urandom(KEY_BYTES)], durable=True)",
        ("killed::dies_at_any_call[first key]",),
    ),
    Removal(
        "key-temps-of-the-dead",
        "key files of the dead are not collected",
        "cache/upkeep.py",
        "            trust.key_ring().collect(now)",
        "            pass",
        ("killed::dies_at_any_call[rotate]", "killed::dies_at_any_call[first key]"),
    ),
)
