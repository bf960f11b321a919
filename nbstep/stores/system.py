"""What the system says of the disk under a cache: its kind, its room, whether files there may be mapped."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEEP_FREE_BYTES: Final = 2_000_000_000
_WINDOWS: Final = sys.platform == "win32"
_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs|glusterfs|virtiofs|fuse.*|prl_fs|vboxsf|drvfs"
)


def may_map(directory: Path) -> bool:
    """Whether files in `directory` may be mapped: a map of a file that somebody truncates ends the whole kernel."""
    if _WINDOWS:
        return False
    status = os.stat(directory)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022 and not _on_network(status.st_dev)


def _on_network(device: int) -> bool:
    kind = file_system(device)
    return kind is not None and _NETWORK.fullmatch(kind) is not None


def file_system(device: int) -> str | None:
    """The type of the file system on a device: "ext4", "nfs4"; None where the system does not say."""
    if _WINDOWS:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if len(fields.split()) > 2 and fields.split()[2] == wanted:
            return rest.split(" ")[0]
    return None


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """A disk: what a user may still write on it, and all of it."""

    free_bytes: int
    total_bytes: int

    @property
    def kept_free_bytes(self) -> int:
        """What nbstep leaves free: 2 GB, on a small disk a tenth of it."""
        return min(KEEP_FREE_BYTES, self.total_bytes // 10)


def disk_room(directory: Path) -> DiskRoom | None:
    """The room on the disk of `directory`; None where the system does not say."""
    if not hasattr(os, "statvfs"):
        import shutil

        usage = shutil.disk_usage(directory)
        return DiskRoom(usage.free, usage.total)
    status = os.statvfs(directory)
    return DiskRoom(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize) if status.f_blocks else None
