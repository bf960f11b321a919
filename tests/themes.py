"""JupyterLab's themes, changed in an open page: light, dark and high contrast."""

from __future__ import annotations

from typing import Any, Final

THEMES: Final = {
    "light": "JupyterLab Light",
    "dark": "JupyterLab Dark",
    "high-contrast": "JupyterLab Dark High Contrast",
}


def show_theme(page: Any, theme: str) -> None:
    """Changes the theme of a Playwright page that shows JupyterLab, and waits until its colours are there."""
    name = THEMES[theme]
    page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
    page.wait_for_function("(name) => document.body.dataset.jpThemeName === name", arg=name)
