"""Linters on a notebook with `# %%workflow` and `# %%step` cells, and what runs after they repaired it (N1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
from browser import write_notebook
from shells import open_shell

CELLS = (
    "%load_ext nbstep",
    "import json\nimport math\nimport os\n\nfrom nbstep import step",
    "# %%workflow sales\ndef area(r):\n    return math.pi * r\nstep(area, 2, key='area')",
    "# %%step text\ntext = json.dumps(1)",
    "print(text, area(1))",
)


def ruff(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--no-cache", "notebook.ipynb"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_n1_ruff_reads_cells_of_the_comment_spelling_and_loses_none_of_their_imports(tmp_path: Path) -> None:
    write_notebook(tmp_path / "notebook.ipynb", *CELLS)
    checked = ruff("check", "--fix", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert ruff("format", folder=tmp_path).returncode == 0
    sources = [cell.source for cell in nbformat.read(tmp_path / "notebook.ipynb", as_version=4).cells]
    assert sources[1] == "import json\nimport math\n\nfrom nbstep import step"
    assert sources[2].startswith("# %%workflow sales\ndef area(r):\n    return math.pi * r\n\n\nstep(area")
    with open_shell(tmp_path) as shell:
        ran = [shell.good(source).text for source in sources]
    assert "sales   1 step: 1 ran" in ran[2]
    assert ran[4].startswith("1 3.14")
