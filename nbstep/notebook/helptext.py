"""What `%%workflow?` says."""

from __future__ import annotations

from typing import Final

WORKFLOW_HELP: Final = """\
%%workflow [NAME] [flags]

Runs the cell as a workflow: what `step(…, key=…)` gives is kept on disk and used again by later runs, and a list of the
steps is shown under the cell. The body is an ordinary cell. Also spelled as a comment, `# %%workflow NAME`, so that
linters and type checkers read the cell.

    %%workflow sales
    raw = step(lambda: fetch_sales(2013), key="sales:2013")

NAME is a label for lists; it is no part of a key.

  --mode normal|refresh|offline    refresh runs every step again; offline raises where nothing is kept
  --retry-errors                   kept errors run again
  --result NAME                    a failed step does not fail the cell: NAME is Ok(last value) or Err(error)
  --cache WHERE                    a path, a URL, or $name for a cache or store of this notebook
  --ttl, --error-ttl DURATION      for how long values and errors count: 30s, 15m, 2h30m, 7d, none
  --cache-errors, --no-cache-errors
  --stale-if-error                 a failed refetch gives the last good value
  --on-drift warn|rerun|error|ignore    what happens to values whose code or inputs changed; also code=rerun,inputs=warn
  --rerun-drifted                  values whose code or inputs changed run again, once

Flags hold for every step of the cell that says nothing else itself.
"""
