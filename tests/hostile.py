"""What others may write into keys, messages, names and values to make a page or a terminal do things (T9).

One corpus for every place that shows such text. Each markup that would run sets `window.pwned`, in whatever window it is.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any, Final

CANARY: Final = "pwned"

# By what it tries. A key can hold each of them; lone surrogates are no keys (K6).
TEXTS: Final = {
    "a script": "<script>window.pwned=1</script>",
    "a script after an attribute": '"><script>window.pwned=1</script>',
    "a script after a script": "</script><script>window.pwned=1</script>",
    "an image": "<img src=x onerror=window.pwned=1>",
    "an image in capitals": "<IMG SRC=x OnError=alert(1)>",
    "a drawing": "<svg/onload=window.pwned=1><animate onbegin=alert(1) attributeName=x></svg>",
    "a frame": "<iframe srcdoc='<script>parent.pwned=1</script>' src=javascript:alert(1)></iframe>",
    "what opens itself": "<details open ontoggle=window.pwned=1><summary>x</summary></details>",
    "a style": "<style>* { display: none } @import url(//evil.example/x.css)</style>",
    "a style in an attribute": "x\" style=\"background:url(javascript:alert(1));width:expression(alert(1))",
    "a style's end": "</style><script>window.pwned=1</script><style>",
    "ends of all that is open": "</td></tr></tbody></table></pre></div></title></textarea></noscript><h1>big</h1>",
    "a comment": "<!--nbstep steps--><!--end of nbstep--><b>bold</b><!--",
    "a comment's end": "--><img src=x onerror=window.pwned=1><!--",
    "a data section": "<![CDATA[<b>]]><?xml version='1.0'?><!DOCTYPE x>",
    "an attribute, in single quotes": "' autofocus tabindex=0 onfocus='window.pwned=1' x='",
    "an attribute, in double quotes": '" autofocus tabindex=0 onfocus="window.pwned=1" x="',
    "an attribute, without quotes": "x onmouseover=window.pwned=1 onpointerenter=window.pwned=1",
    "another base": "<base href=//evil.example/><meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "a form": "<form action=javascript:alert(1)><input name=q><button formaction=javascript:alert(1)>y</button></form>",
    "a command of JupyterLab": "<button data-commandlinker-command='console:create' data-commandlinker-args='{}'>y</button>",
    "a link": "<a href=javascript:window.pwned=1 target=_top>y</a>",
    "a link's address": "javascript:window.pwned=1//https://evil.example/?<b>",
    "a data address": "data:text/html,<script>opener.pwned=1</script>",
    "a link in Markdown": "[click](javascript:window.pwned=1) ![x](x\"onerror=\"window.pwned=1) <https://evil.example>",
    "entities": "&lt;img src=x onerror=alert(1)&gt; &#x3c;b&#x3e; &#60;script&#62;alert(1)&#60;/script&#62; &amp;lt;b&amp;gt;",
    "a template": "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1} {% raw %} <%= 1 %> #{1} %(x)s {0}",
    "formulas": r"$\href{javascript:alert(1)}{x}$ $$\class{x}{y}$$ \(\style{color:red}{z}\) \[w\] \begin{equation}v\end{equation}",
    "direction marks": "\u202egnp.exe\u202c \u2066a\u2069 \u200eb\u200f \u061c",
    "invisible characters": "us\u200ber\u200d:\u2060\ufeff1\u00ad\u180e\U000e0041",
    "another alphabet": "us\u0435r:\u0131 \uff1cscript\uff1ewindow.pwned=1\uff1c/script\uff1e",
    "terminal colours": "\x1b[31mred\x1b[0m \x1b[2J\x1b[1;1H \x9b31m",
    "a terminal's link and title": "\x1b]8;;https://evil.example\x07link\x1b]8;;\x07 \x1b]0;title\x1b\\ \x1bP1\x1b\\",
    "control characters": "nul\x00 bell\x07 back\x08\x08 delete\x7f next\x85 \x0b\x0c\x1c\x1f",
    "lines": "one\ntwo\r\nthree\rfour\u2028five\u2029six\tseven",
    "quotes": "' \" ` \u00b4 \u201e \\ \\\" '''",
    "a shell": "$(touch pwned) `touch pwned` ; touch pwned | x > y & !touch pwned",
    "a magic": "%nbstep clear --cache {window} $HOME ?? !!x",
    "an option": "--and-later",
    "a glob": "*",
    "marks on marks": "Z" + "\u0301\u0489\u20dd" * 40,
    "wide characters": "日本語\u3000のキー\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "very long": "<b>" * 1000 + "x" * 900,
    "a very long word": "w" * 4000,
}  # fmt: skip

# What no shown text may hold: control characters but the line break, direction marks, lone surrogates.
RAW: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u00ad\u180e\ud800-\udfff\U000e0000-\U000e0fff]"
)
# Colours of our own: red, green, yellow, and their end.
OUR_COLOURS: Final = re.compile("\x1b\\[(?:31|32|33|0)m")


def harmless(text: str) -> str:
    """A text as long as another one when shown, of letters."""
    from nbstep.words import shown

    return "m" * len(shown(text))


class Page(HTMLParser):
    """The elements of a page with their attributes' names, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: Counter[tuple[str, ...]] = Counter()
        self.others: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag, *(name for name, _ in attrs)] += 1

    def handle_endtag(self, tag: str) -> None:
        self.elements["/", tag] += 1

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def made(self) -> tuple[Any, ...]:
        """All that an innocent text in the same places must make as well."""
        return self.elements, self.others
