"""No secret of a known form stands in a saved notebook or in what is exported from it, wherever a step met it (T10)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from test_redaction import SECRETS

# Not those whose secret is a word of the exported page as well, and one that a text was cut after.
TEXTS = [text for text, secret in SECRETS if secret not in ("second", "hello", "abc", "cut-off")]
SAID = [secret for text, secret in SECRETS if text in TEXTS]
# Each way to a page: keys, messages, arguments, values, frames and their columns, names of workflows, chains and groups.
SETUP = """
%load_ext nbstep
import asyncio, json, os, nbstep, pandas as pd
TEXTS = json.load(open(os.environ["SECRET_TEXTS"]))
def bad(text): raise RuntimeError(text)
def chained(text):
    try: bad(text)
    except RuntimeError as error: raise LookupError(f"for {text}") from error
"""
RAISES = "%%workflow\nstep(bad, TEXTS[{at}], key=f'get:{at}')"
LISTED = """
%%workflow
for at, text in list(enumerate(TEXTS))[{at}:{at} + 8]:
    step(bad, text, key=f"{{at}} {{text}}"[:4000], on_error="keep")
    step(lambda: {{"a": text, text: [text]}}, key=f"dict {{at}} {{text}}"[:4000])
    step(lambda: pd.DataFrame({{"a": [text], text: [1]}}), key=f"frame {{at}}")
    step(lambda: "m" * 232 + f" {{text}}", key=f"text {{at}}")
    step(lambda: step(len, text, key=f"inner {{at}} {{text}}"[:4000]), key=f"outer {{at}}")
    step(lambda: (n for n in text), key=f"generator {{text}}"[:4000])
"""
REST = (
    "%%workflow\nstep(chained, TEXTS[0], key='chained')",
    "%%workflow\nstep(chained, TEXTS[0], key='chained')",  # from the cache
    "%%workflow\nasync def wait(text): bad(text)\nasync with asyncio.TaskGroup() as group:\n"
    "    for at in range(3): group.create_task(step(wait, TEXTS[at], key=f'group:{at}'))",
    "%%workflow\nstep(len, TEXTS[0], key=TEXTS[1]); step(repr, TEXTS[0], key=TEXTS[1])",  # a collision
    "%%workflow --mode offline\nstep(len, TEXTS[0], key=TEXTS[3] + '?')",
    "%%workflow --plan\nstep(len, TEXTS[0], key=TEXTS[3])",
    "workflow = nbstep.create_workflow(name=TEXTS[0])\nresult = workflow(lambda step: step(len, 'x', key='named'))",
    "%%workflow\nresult = workflow(lambda step: step(bad, TEXTS[0], key=TEXTS[2]))\nresult.unwrap()",
    "%nbstep ls\n%nbstep ls error:\n%nbstep ls --json",
    "from nbstep.commands.verbs import run_command\nfrom nbstep.commands.tables import Screen\n"
    "for key in nbstep.Cache().keys():\n    print(run_command(['show', key], screen=Screen(notebook=True)).text)",
    "for verb in ('rm', 'undo', 'retry', 'verify', 'accept', 'show', 'export'):\n    for key in (TEXTS[1], f'0 {TEXTS[0]}'):\n"
    "        print(run_command([verb, key, 'out'] if verb == 'export' else [verb, key], screen=Screen(notebook=True)).text)",
    "%nbstep ls --trash\n%nbstep verify\n%nbstep gc --dry-run\n%nbstep doctor\n%nbstep settings",
    "%nbstep panel",
)  # fmt: skip


@pytest.mark.kernel
@pytest.mark.filterwarnings("ignore:Your element with mimetype")  # a live list that was emptied
def test_t10_no_secret_that_a_step_met_is_in_a_saved_notebook_or_in_its_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    (tmp_path / "secrets.json").write_text(json.dumps(TEXTS))
    monkeypatch.setenv("SECRET_TEXTS", str(tmp_path / "secrets.json"))
    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / "cache"))
    raises = [RAISES.format(at=at) for at in range(len(TEXTS))]
    listed = [LISTED.format(at=at).strip() for at in range(0, len(TEXTS), 8)]
    cells = [SETUP.strip(), *raises, *listed, *REST]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", store_widget_state=True, allow_errors=True)
    client.execute(cwd=str(tmp_path))
    exported, _ = HTMLExporter().from_notebook_node(notebook)
    found = {at: secrets for at, cell in enumerate(notebook.cells) if (secrets := _secrets_in(_outputs(cell)))}
    assert {cells[at]: secrets for at, secrets in found.items()} == {}
    for saved in (json.dumps(notebook.metadata, ensure_ascii=False), exported.partition("<body")[2]):
        assert _secrets_in(saved) == []
    errors = [output for cell in notebook.cells for output in cell.outputs if output.output_type == "error"]
    assert len(errors) >= len(TEXTS) + 5
    assert "nbstep-snapshot" in exported
    assert exported.count("&lt;redacted&gt;") > 500


def _outputs(cell: Any) -> str:
    return json.dumps(cell.outputs, ensure_ascii=False)


def _secrets_in(saved: str) -> list[str]:
    saved = re.sub("[0-9a-f]{64}", "", saved)  # ids, which may hold any four digits
    return [secret for secret in SAID if secret in saved]
