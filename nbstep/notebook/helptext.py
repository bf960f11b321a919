"""What `%%workflow?` and `%%step?` say."""

from __future__ import annotations

from typing import Final

WORKFLOW_HELP: Final = """\
%%workflow [NAME] [flags]

Runs the cell as a workflow: what `step(…, key=…)` gives is kept on disk and used again by later runs, and a list of the
steps is shown under the cell. The body is an ordinary cell.

Also spelled as a comment, `# %%workflow NAME`: linters and type checkers skip a cell that begins with a magic, and
`ruff check --fix` deletes imports that only such cells use. With the comment, and `from nbstep import step`, they read it.

    %%workflow sales
    raw = step(lambda: fetch_sales(2013), key="sales:2013")

NAME is a label for lists; it is no part of a key.

  --mode normal|refresh|offline    refresh runs every step again; offline raises where nothing is kept
  --retry-errors                   kept errors run again
  --result NAME                    a failed step does not fail the cell: NAME is Ok(last value) or Err(error)
  --plan                           runs nothing: says which keys are kept, which are missing, and how long a run would take
  --cache WHERE                    a path, a URL, or $name for a cache or store of this notebook
  --ttl, --error-ttl DURATION      for how long values and errors count: 30s, 15m, 2h30m, 7d, none
  --cache-errors, --no-cache-errors
  --stale-if-error                 a failed refetch gives the last good value
  --on-drift warn|rerun|error|ignore    what happens to values whose code or inputs changed; also code=rerun,inputs=warn
  --rerun-drifted                  values whose code or inputs changed run again, once

Flags hold for every step of the cell that says nothing else itself.
"""

STEP_HELP: Final = """\
%%step KEY [--out NAME,NAME] [flags]

Runs the whole cell as one step: the names it binds and what it displays are kept under KEY. When something is kept, the
body is skipped: the names are set, the output is shown again. Also spelled as a comment, `# %%step KEY`.

    %%step model:{lr} --ttl 7d
    model = fit(train, lr)
    model.score(test)

KEY takes names of the notebook in braces, as an f-string does; a key with spaces is quoted.

  --out NAME,NAME    keep these names only; without it all that the cell binds, or sets a part of (df["x"] = …)

All flags of %%workflow but --result hold here too: see %%workflow?

Imports and definitions (def, class) of the cell run on a hit too, so they are those of the cell as it stands. What the
cell changes otherwise (a file, an object of another cell that it calls a method of) is not kept. A name that cannot be
kept, such as an open file, is named in the step list, and the cell runs each time. Kept output is at most 8 MB; widgets, and
what other programs print past Python, are left out.
"""
