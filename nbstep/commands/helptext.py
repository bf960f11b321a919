"""What `help VERB` says beyond the verb's line in the table: its options, and an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MORE: Final[Mapping[str, str]] = {
    "panel": """\
In a notebook: search, select, delete, undo, retry, and each entry in full; in a shell the table of `ls`.
Nothing is loaded, and the panel follows what runs keep. JupyterLab's left sidebar shows the same of the open notebook's
project, with no kernel and while one is busy.

With --json: the records of `ls --json`.
""",
    "ls": """\
All words of a query must hold:

  error:  error:TYPE     kept errors, or those of a type
  old:                   values whose code or inputs changed, as the last run that used them found
  user:*                 keys that match a pattern
  unused:30d             entries that nothing used for so long
  any text, "two words"  in a key, a type or a message

  --trash                what was deleted or replaced within 24 hours, and how each comes back

A notebook and a terminal show the first 1,000 rows; a pipe gets all of them.

  {nbstep} ls error: 'user:*'

With --json: a list of id, key, status, type, shape, message, size_bytes, took_s, created, expires_at, hits, last_used, saved_s
for each entry; of --trash also trashed_at and back. Times are seconds since the epoch.
""",
    "show": """\
When it was kept, where it comes from, what it was made from and went into, what its last look-up got and why, the beginning
of the value or the original traceback. Of an old value what changed: its inputs, and the source of what was edited, then and
now. Nothing is loaded.

  --as NAME    in a notebook: loads the value under this name

  {nbstep} show user:1

With --json: one record with the fields of `ls --json`, and ttl_s, workflow, notebook, cell, line, uses, uses_beyond, went_into,
python, packages, signer, trusted, preview, traceback, source, accepted, inputs (name, text, changed), differences.
""",
    "rm": """\
What is deleted waits in the trash for 24 hours: `undo` brings it back. Where one of the names is unknown, nothing is
deleted. A key with spaces, and in a shell a pattern, is quoted. The queries of `ls` (`error:`, `error:TYPE`, `old:`,
`unused:30d`) narrow what is named, or else all there is; a key comes before a query. A disk that is full to the last
name keeps nothing for `undo`: then it says that the entries went for good.

It says which later steps were made from what it deleted; they stay, unless they are to go too.

  --and-later    and all that was made from these, and from that in turn, as one batch; also where these are gone already
  --untrusted    only what others signed, all of it or under these names; your own entries stay

  {nbstep} rm user:1 'page:*'
  {nbstep} rm old:               all old values
  {nbstep} rm 'user:*' error:    the kept errors among them
  {nbstep} rm clean --and-later
""",
    "clear": """\
It does not ask. Everything waits in the trash for 24 hours: `undo` brings it back.
""",
    "undo": """\
Brings back all that one command deleted, or one run replaced, within 24 hours; with KEY the last entry of that key.
What stands there now goes to the trash in exchange: a second `undo` swaps them again. `ls --trash` shows all that waits there.
An entry whose bytes are damaged stays in the trash.

  --back N    of the entries of KEY that wait in the trash the one before the last (2), before that (3), …

  {nbstep} undo user:1
""",
    "retry": """\
The steps run again when they are next asked. Values are never deleted. A run is one cell, or one call of a workflow: without
a word go the errors that the last of them met, which may be one cell of many; those of other cells stay.

  {nbstep} retry                  of the last run
  {nbstep} retry '*'              all
  {nbstep} retry HTTPStatusError  those of a type; `error:HTTP` finds it by a part of its name
""",
    "accept": """\
For an edit that changes no result, or one you can live with: the values are no longer told as old. They keep their age, and
nothing is run or loaded. What counts as today's code and inputs is what the last run of the step saw: run its cell first.
In a shell, that is what the run log says of it. The next edit is told again. `undo` takes it back.

  {nbstep} accept clean 'label:*'
  {nbstep} accept old:              all that are known to be old
""",
    "trust": """\
Shows the entries and asks; accepting lets them run code as you, once a step asks for them. DIR is the cache's folder.
There is no undo of it: `rm` deletes what was accepted.

  --key-file FILE    only what the key in FILE signed
  --rotate           makes you a new key, signs your entries anew, empties the trash; after a leak see SECURITY.md
  -y                 does it without asking

  {nbstep} trust shared/.nbstep --key-file team.key
""",
    "verify": """\
Reads everything and loads nothing. The exit code adds 1 where an entry is corrupt (bytes changed or lost), 2 untrusted
(somebody else signed it), 4 unreadable here (no permission, another version). `ls` and `doctor` count by the headers alone,
in the same words. A step uses none of them: it runs again.

  {nbstep} verify 'model:*'
""",
    "settings": """\
Where the cache is, mode, policy, the cache's own options and the signing key: the value, whether it is the default or comes
from the environment, a flag or `create_workflow`, and what sets it. Inside a %%workflow cell: with the flags of that cell.

With --json: a list of name, value, origin and set_by for each setting; durations in seconds, sizes in bytes.
""",
    "gc": """\
  --unused DURATION    entries that nothing used for so long go to the trash, too
  --dry-run            only says what would go

  {nbstep} gc --unused 30d --dry-run
""",
    "doctor": """\
For a report of a problem: versions, the folder and why it is this one, the disk, the signing key, what the last runs got.
Under a line that tells of a problem stands what to do. It changes nothing.

The exit code is 0, whatever it found; 1 where the cache cannot be opened, 2 where the command is wrong.
""",
    "autoload": """\
Off until you turn it on. `on` writes one file that IPython runs when a kernel or a terminal starts, in the folder of this
Python's environment, so for all that use it; `off` removes that file. Without a word: which it is, and where. It is for
yourself: a notebook for others still says %load_ext nbstep.

  {nbstep} autoload on
""",
    "completion": """\
Prints a script. Tab then completes verbs, options, and the keys of the project's cache, quoted where that is needed. More than
100 keys are completed part by part (`page:`, then `page:2:`).

  bash, in ~/.bashrc                     source <({nbstep} completion bash)
  zsh, in ~/.zshrc, behind compinit      source <({nbstep} completion zsh)
  fish, once: {nbstep} completion fish > ~/.config/fish/completions/nbstep.fish

In IPython and notebooks `%nbstep` lines are completed by themselves.
""",
    "help": """\
  {nbstep} help rm    what `rm` does, its options, an example; as {nbstep} rm --help
""",
    "export": """\
One file a value, which `joblib.load` opens without nbstep. What cannot be written (a lambda, a kept error) is named and
left out; the exit code is 1 then. Classes of a notebook must be defined where such a file is loaded.

  {nbstep} export 'user:*' users
  {nbstep} export clean by_store tables
""",
    "import-joblib": """\
LOCATION is the folder that joblib.Memory was given. Without a key it lists its results and loads none: function, arguments, size,
how long it took, and the key that each would get. That is the call, fetch_user(uid=1), as bare @step.cached makes it; an
argument that is no number, text, date or path counts by joblib's digest (#…), and @step.cached finds nothing under such a key.

joblib's pickles are unsigned, and loading one runs the code in it: anyone who could write to that folder can run code as you.
So nothing is loaded but what you name. What is kept under a key already stays. In a folder of results whose classes
a notebook defines, take over there.

  KEY, GLOB    what gets these keys; in a shell a pattern is quoted
  --all        everything
  --replace    what was kept under their keys goes to the trash: `undo` brings it back

  {nbstep} import-joblib ~/churn/joblib_cache
  {nbstep} import-joblib ~/churn/joblib_cache 'fetch_user(*'
""",
}
