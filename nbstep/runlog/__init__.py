"""The run log: what recent runs asked and got. Statistics only; losing it loses nothing else.

One small JSON file a run in `v1/runs/` of a disk cache, the newest 200 kept, read as untrusted text.
"""

from __future__ import annotations

from nbstep.runlog.folder import KEPT_RUNS, collect, log_stamp, runs_directory
from nbstep.runlog.reading import last_run, read_runs
from nbstep.runlog.records import LoggedFinding, LoggedRun, LoggedStep, Usage
from nbstep.runlog.tallies import usage
from nbstep.runlog.writing import Recorder

__all__ = [
    "KEPT_RUNS",
    "LoggedFinding",
    "LoggedRun",
    "LoggedStep",
    "Recorder",
    "Usage",
    "collect",
    "last_run",
    "log_stamp",
    "read_runs",
    "runs_directory",
    "usage",
]
