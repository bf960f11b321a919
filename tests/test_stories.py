"""The stories of `tests/stories`, each in a real kernel: what a user sees at every turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from run import STORIES, Story

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client leaves sockets and pipes of ended kernels to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client"),
]


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_what_a_user_sees(name: str, tmp_path: Path) -> None:
    assert Story(STORIES[name], tmp_path).run() >= 2


@pytest.mark.parametrize("said", ["```\n2\n```", "```\n1\n1\n```", "nothing", "**Restart the kernel.**"])
def test_a_story_that_says_something_else_fails(said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    write(new_notebook(cells=[new_code_cell("1"), new_markdown_cell(said)]), path)
    with pytest.raises(AssertionError, match=r"wrong\.ipynb, cell 2 says:\n[^$]*this was seen:\n1"):
        Story(path, tmp_path).run()


def test_a_cell_that_fails_unsaid_ends_the_story(tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    write(new_notebook(cells=[new_code_cell("assert 1 == 2"), new_markdown_cell("```\n…\n```")]), path)
    with pytest.raises(AssertionError, match=r"wrong\.ipynb, cell 1 ended with error"):
        Story(path, tmp_path).run()


def test_every_story_is_in_the_list() -> None:
    text = (Path(__file__).parent / "stories" / "README.md").read_text(encoding="utf-8")
    assert [name for name in STORIES if f"[{name}]({name}.ipynb)" not in text] == []
    assert len(STORIES) >= 12
