"""Whether text can be read: colours as a page computed them, and their contrast as WCAG defines it."""

from __future__ import annotations

import re
from typing import Any


def colour(locator: Any) -> str:
    """The colour of an element's text."""
    return locator.evaluate("(node) => getComputedStyle(node).color")


def ground(locator: Any) -> str:
    """The colour behind an element: its own, or that of the nearest around it whose is not translucent."""
    return locator.evaluate(
        """(node) => {
            for (; node; node = node.parentElement) {
                const { backgroundColor } = getComputedStyle(node);
                if (!/^rgba|[/]/.test(backgroundColor)) return backgroundColor;
            }
        }"""
    )


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two CSS colours."""
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(css: str) -> float:
    """How light a CSS colour is, from 0 to 1."""
    parts = [float(part) for part in re.findall(r"[\d.]+", css)]
    channels = [part if css.startswith("color(srgb") else part / 255 for part in parts[:3]]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
