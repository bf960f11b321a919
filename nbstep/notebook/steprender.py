"""The step list as HTML (notebooks), as a table (terminals) and as the text that is saved with the notebook. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nbstep.cache.secrets.redaction import key_text
from nbstep.commands.tables import wrapped
from nbstep.durations import clock_text, size_text
from nbstep.notebook.findinglines import finding_lines
from nbstep.notebook.folding import FOLD_ABOVE, fold, fold_labels
from nbstep.notebook.progress import progress_of
from nbstep.notebook.steplist import StepList
from nbstep.notebook.steprows import (
    Row,
    Words,
    flags_of,
    rows_of,
    summary_of,
    words_of,
)
from nbstep.notebook.stepstyle import STYLE
from nbstep.notebook.waysout import failures_lines, not_started_line, row_hint
from nbstep.words import fit, natural_order, plural, shown, text_width

# Everything between the two comments changes from run to run; `nbstep.testing` ships the pattern that removes it.
HTML_BEGIN: Final = "<!--nbstep steps-->"
HTML_END: Final = "<!--end of nbstep-->"
# Classes by which MathJax 2 and 3 leave alone what stands between dollars: it would make elements of it.
PLAIN: Final = "tex2jax_ignore mathjax_ignore"
_WHOLE_CHARS: Final = 24
_END_CHARS: Final = 8  # as in the panel
# In a terminal, as in its `nbstep ls`.
_COLOURS: Final = {"failed": "\x1b[31m", "old": "\x1b[33m", "busy": "\x1b[36m", "name": "\x1b[1m", "foot": "\x1b[2m"}


@dataclass(frozen=True, slots=True)
class CacheFoot:
    """What the foot says of the cache: its place as shown, its size, the disk's free space, each where known.

    `also` are the places of other caches that steps of the same cell used.
    """

    place: str
    size_bytes: int | None = None
    free_bytes: int | None = None
    also: tuple[str, ...] = ()

    def text(self) -> str:
        """`cache ~/proj/.nbstep · 1.2 GB · 212 GB free`."""
        parts = [f"cache {shown(self.place)}"]
        if self.size_bytes is not None:
            parts.append(size_text(self.size_bytes))
        if self.free_bytes is not None:
            parts.append(f"{size_text(self.free_bytes)} free")
        if self.also:
            parts.append(f"also used: {', '.join(map(shown, self.also))}")
        return " · ".join(parts)


def html_of(
    state: StepList, now: float, foot: CacheFoot | None = None, notes: Sequence[str] = (), *, live: bool = False
) -> str:
    """The list as one HTML fragment, readable without scripts and, in plain order, without styles.

    One that is `live` says of when it is: where its kernel dies, this is what the notebook keeps.
    """
    rows = rows_of(state, now)
    visible = fold(rows, coming=_coming(state))
    until = state.ended.at if state.ended else None
    summary = html.escape(_summary(rows, state, now))
    name = f"<b>{html.escape(key_text(state.name))}</b> " if state.name else ""  # spaces are for who sees no styles
    flags = "".join(f" <i>{html.escape(shown(flag))}</i>" for flag in flags_of(state))
    flags += f' <span class="l">as of {clock_text(now)}</span>' if live else ""
    body = _progress(state, now) + (_table(visible, state, now, until) if visible else "")
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in _lines(rows, state))
    found = f"<ul>{lines}</ul>" if lines else ""
    said = "".join(f'<div class="p">{html.escape(shown(note))}</div>' for note in notes)
    end = f'<div class="o">{html.escape(foot.text())}</div>' if foot else ""
    return (
        f'{HTML_BEGIN}<div class="nbstep-l {PLAIN}"><style>{STYLE}</style>'
        f'<div class="s">{name}{summary}{flags}</div>{body}{said}{found}{end}</div>{HTML_END}'
    )


def _coming(state: StepList) -> int:
    return 0 if state.ended else state.ahead.count


def _summary(rows: Sequence[Row], state: StepList, now: float) -> str:
    return summary_of(rows, now, partial=state.partial, not_started=state.not_started)


def _lines(rows: Sequence[Row], state: StepList) -> list[str]:
    """What stands under the table: findings, then what to do about failures."""
    not_started = not_started_line(state)
    return [*finding_lines(state.findings), *([not_started] if not_started else []), *failures_lines(rows, state)]


def _table(rows: Sequence[Row], state: StepList, now: float, until: float | None) -> str:
    seconds = [_share_s(row) for row in rows]
    whole, longest = sum(s for s, row in zip(seconds, rows, strict=True) if not row.depth), max(seconds)
    details = any(words_of(row, now, until).detail for row in rows)
    lines = [
        _tr(words_of(row, now, until), row, _bar(s, whole, longest), details, row_hint(row, state))
        for row, s in zip(rows, seconds, strict=True)
    ]
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _progress(state: StepList, now: float) -> str:
    """A bar of three parts, cached, ran and failed, with what they are in words."""
    progress = progress_of(state, now)
    if progress is None or not progress.total:
        return ""
    parts = (("kept", progress.cached, "cached"), ("plain", progress.ran, "ran"), ("failed", progress.failed, "failed"))
    bars = "".join(
        f'<span class="{tone}" style="width:{100 * count / progress.total:.1f}%" title="{count:,} {word}"></span>'
        for tone, count, word in parts
        if count
    )
    return f'<div class="g"><div class="b">{bars}</div>{html.escape(progress.text())}</div>'


def _share_s(row: Row) -> float:
    return row.spent_s or row.saved_s


def _bar(seconds: float, whole: float, longest: float) -> str:
    if not seconds or not whole:
        return ""
    width = max(3, round(100 * seconds / longest))
    return f'<span style="width:{width}%" title="{min(100, round(100 * seconds / whole))} % of the time"></span>'


def _tr(words: Words, row: Row, bar: str, details: bool, way_out: str) -> str:
    escape = html.escape
    indent = f' style="padding-left:{18 * row.depth}px"' if row.depth else ""
    label = _label(words)
    whole = f' title="{escape(words.label)}"' if len(words.label) > _WHOLE_CHARS else ""
    said = " · ".join(filter(None, (words.hint, way_out)))
    hint = f' title="{escape(said)}"' if said else ""
    detail = f'<td class="d">{escape(words.detail)}</td>' if details else ""
    return (
        f'<tr class="{words.tone}"{hint}><td>{words.mark}</td><td class="k"{indent}{whole}>{label}</td>'
        f'<td class="w">{escape(words.state)}</td><td class="n">{escape(words.time)}</td><td class="b">{bar}</td>'
        f'<td class="n">{escape(words.size)}</td><td class="f">{escape(words.age)}</td>{detail}</tr>'
    )


def _label(words: Words) -> str:
    """A row's label and how many it stands for; where it does not fit, its middle goes, as keys of one map differ in their ends."""
    label, count = words.label, f" <small>{html.escape(words.count)}</small>" if words.count else ""
    if len(label) <= _WHOLE_CHARS:
        return html.escape(label) + count
    end = label[-_END_CHARS:] if label.isascii() else ""  # which reads from left to right
    begin = label[: len(label) - len(end)]
    beside = len(end) + (len(words.count) + 2 if words.count else 0)
    cut = f'<span style="max-width:calc(100% - {beside}ch)">{html.escape(begin)}</span>'
    return f"{cut}<span>{html.escape(end)}</span>{count}"


def plain_of(
    state: StepList,
    now: float,
    foot: CacheFoot | None = None,
    width: int = 110,
    notes: Sequence[str] = (),
    above: int = FOLD_ABOVE,
    colour: bool = False,
) -> str:
    """The list as a terminal shows it, in at most `width` columns; one of more than `above` rows is folded."""
    rows = rows_of(state, now)
    until = state.ended.at if state.ended else None
    paint = _painted if colour else _unpainted
    name = key_text(state.name) if state.name else ""
    flags = "".join(f"   [{shown(flag)}]" for flag in flags_of(state))
    visible = fold(rows, above, _coming(state))
    first = wrapped(f"{name}   {_summary(rows, state, now)}{flags}".lstrip(), width)
    lines = [paint(name, "name") + first.removeprefix(name) if first.startswith(name) else first]
    for line, row in zip(_plain_rows(visible, now, until, width), visible, strict=True):
        lines.append(paint(line.rstrip(), words_of(row, now, until).tone))
    lines += [f"  {shown(note)}".rstrip() for note in notes]
    lines += [f"  {paint('!', 'old')} {line}".rstrip() for line in _lines(rows, state)]
    if foot:
        lines.append(paint(wrapped(foot.text(), width), "foot"))
    return "\n".join(lines)


def live_of(state: StepList, now: float, width: int) -> str:
    """The one line that a terminal shows while steps run: how far a map is, the summary, and the step that began last."""
    rows = rows_of(state, now)
    text = f"{key_text(state.name)}   " if state.name else ""
    progress = progress_of(state, now)
    text += f"{progress.text()} · " if progress else ""
    text += _summary(rows, state, now)
    busy = [row for row in rows if row.state in ("running", "waiting")]
    if busy:
        words = words_of(busy[-1], now)
        text += f" · {', '.join(filter(None, (f'{words.label} {words.time}'.rstrip(), words.detail)))}"
    return fit(text, width).rstrip()


def _painted(text: str, tone: str) -> str:
    colour = _COLOURS.get(tone)
    return f"{colour}{text}\x1b[0m" if colour else text


def _unpainted(text: str, tone: str) -> str:  # noqa: ARG001 - as `_painted`
    return text


def _plain_rows(rows: Sequence[Row], now: float, until: float | None, width: int) -> list[str]:
    cells: list[tuple[str, ...]] = []
    for row in rows:
        words = words_of(row, now, until)
        label = "  " * row.depth + f"{words.label} {words.count}".rstrip()
        cells.append((words.mark, label, words.state, words.detail, words.time, words.size, words.age))
    if not cells:
        return []
    widths = [max(text_width(line[column]) for line in cells) for column in range(7)]

    def spare() -> int:
        """What is left for the label and the detail."""
        return width - 3 - sum(widths) + widths[1] + widths[3] - 2 * sum(1 for w in widths[2:] if w)

    for narrowed in (5, 6, 3):  # on a narrow screen the size goes first, then the age, then the detail
        if min(widths[1], 20) + min(widths[3], 12) > spare():
            widths[narrowed] = 0
    if widths[1] + widths[3] > spare():
        widths[1] = max(1, min(widths[1], max(20 if widths[3] else 1, spare() - min(widths[3], 48))))
        widths[3] = max(12, spare() - widths[1]) if widths[3] else 0
    return [_plain_line(line, widths) for line in cells]


def _plain_line(line: tuple[str, ...], widths: Sequence[int]) -> str:
    parts = [
        fit(text, width, right=column in (4, 5), keep_end=column == 1)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
        if width
    ]
    return "  " + parts[0] + " " + "  ".join(parts[1:])


def saved_of(state: StepList, now: float) -> str:
    """The text saved with the notebook: keys and how they ended, the same whether they ran or came from the cache.

    Steps inside steps are left out (on a hit of the outer one they are not even asked), and the order is that of the
    keys, which threads cannot change.
    """
    rows = [row for row in rows_of(state, now) if not row.depth]
    said = [(_ended_word(row), row) for row in rows]
    name = f"{key_text(state.name)}: " if state.name else ""
    lines = [f"{name}{plural(sum(map(_keys, rows)), 'step')}"]
    said.sort(key=lambda pair: natural_order(pair[1].label))
    words = [word for word, _ in said]
    many = {word for word in set(words) if (len(said) if word == "ok" else words.count(word)) > FOLD_ABOVE}
    told = [(word, row.label) for word, row in said if word not in many]
    for folding in sorted(many):
        alike = [row for word, row in said if word == folding]
        for prefix, at in fold_labels((row.label for row in alike), FOLD_ABOVE):
            count = sum(_keys(alike[i]) for i in at)
            told.append((folding, f"{prefix} ×{count:,}" if count > 1 else prefix))
    lines += [f"  {word:<8}{fit(label, 100, keep_end=True).rstrip()}" for word, label in told]
    return "\n".join(lines)


def _keys(row: Row) -> int:
    return row.count if row.folded else 1


def _ended_word(row: Row) -> str:
    if row.state in ("failed", "failed (cached)"):
        return "failed"
    return "ok" if row.call.phase == "done" and row.state != "interrupted" else "open"
