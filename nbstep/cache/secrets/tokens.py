"""The tokens of well-known services, which begin, or stand in a URL, as nothing else does."""

from __future__ import annotations

from typing import Final

TOKENS: Final = (
    r"(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"sk-(?=[\w-]{0,100}\d)(?=[\w-]{0,100}[A-Za-z0-9]{12})[\w-]{16,}",
    r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{8,}",
    r"gh[pousr]_[A-Za-z0-9]{20,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"glpat-[A-Za-z0-9_-]{16,}",
    r"xox[abeprs]-[A-Za-z0-9-]{10,}",
    r"hf_[A-Za-z0-9]{20,}\b",
    r"AIza[0-9A-Za-z_-]{30,}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}",
    r"dapi[0-9a-f]{32}",
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-[A-Za-z0-9_-]{30,}",
    r"shpat_[0-9a-f]{32}",
    r"ya29\.[\w-]{20,}",
    r"(?<=hooks\.slack\.com/services/)[\w/]+",
    r"(?<=/api/webhooks/)\d+/[\w-]+",
    r"(?<=/)bot\d{6,}:[\w-]{30,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
)
TOKEN_HINTS: Final = (
    "akia", "asia", "sk-", "_live_", "_test_", "gh", "glpat-", "xox", "hf_", "aiza", "sg.", "dapi", "npm_", "pypi-", "shpat_",
    "ya29.", "eyj", "hooks.slack.com", "/api/webhooks/", "/bot",
)  # fmt: skip
