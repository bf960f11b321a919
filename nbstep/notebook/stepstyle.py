"""How the step list looks: one small style sheet, sent with every list, on the colours of the front end's theme."""

from __future__ import annotations

import re
from typing import Final

# The root's class is doubled so that these rules win over the front ends' own table styles without `!important`.
# Colours come from JupyterLab and Notebook 7 (--jp-*), else from VS Code (--vscode-*), else stand between light and dark.
_SHEET: Final = """
.nbstep-l.nbstep-l {
  --n-strong: var(--jp-ui-font-color0, var(--vscode-foreground, currentColor));
  --n-faint: color-mix(in srgb, var(--jp-ui-font-color2, var(--vscode-descriptionForeground, GrayText)) 80%, var(--n-strong));
  --n-red: color-mix(in srgb, var(--jp-error-color1, var(--vscode-errorForeground, #d1383d)) 72%, var(--n-strong));
  --n-amber: color-mix(in srgb, var(--jp-warn-color1, #f57c00) 60%, var(--n-strong));
  --n-blue: var(--jp-brand-color1, var(--vscode-progressBar-background, #2f7fd0));
  --n-line: var(--jp-border-color2, var(--vscode-panel-border, rgba(128, 128, 128, .3)));
  --n-mono: var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, monospace));
  font: 13px/1.5 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));
  color: var(--jp-ui-font-color1, inherit);
  padding: 4px 0 6px; max-width: 100%; overflow-x: auto; container-type: inline-size;
}
.nbstep-l.nbstep-l .s { margin: 0 0 4px; font-variant-numeric: tabular-nums; }
.nbstep-l.nbstep-l .s b { font-weight: 600; margin-right: .75em; }
.nbstep-l.nbstep-l .s i {
  font-style: normal; color: var(--n-faint); border: 1px solid var(--n-line); border-radius: 3px;
  padding: 0 5px; margin-left: .6em; display: inline-block; white-space: nowrap;
}
.nbstep-l.nbstep-l .s .l { color: var(--n-faint); font-size: 12px; margin-left: .75em; white-space: nowrap; }
.nbstep-l.nbstep-l table {
  display: table; border: 0; border-collapse: collapse; margin: 0; width: auto; table-layout: auto;
  font-size: inherit; color: inherit;
}
.nbstep-l.nbstep-l tbody tr:nth-child(n) { background: none; border: 0; }
.nbstep-l.nbstep-l tbody tr:nth-child(n):hover { background: color-mix(in srgb, currentColor 7%, transparent); }
.nbstep-l.nbstep-l td {
  padding: 1px 14px 1px 0; border: 0; border-top: 1px solid var(--n-line); background: none; max-width: none;
  text-align: left; vertical-align: baseline; white-space: nowrap; line-height: 1.6; font-size: inherit; color: inherit;
}
.nbstep-l.nbstep-l td:first-child { padding: 1px 8px 1px 2px; width: 1em; text-align: center; }
.nbstep-l.nbstep-l td.k {
  font-family: var(--n-mono); font-size: 12px; max-width: 20em; overflow: hidden; text-overflow: ellipsis;
}
/* The first is cut, not the row's end. Text in the line itself stands where that of the other cells does. */
.nbstep-l.nbstep-l td.k:has(span)::before { content: "\\200b"; }
.nbstep-l.nbstep-l td.k:has(span) { text-overflow: clip; }
.nbstep-l.nbstep-l td.k span {
  display: inline-block; overflow: hidden; text-overflow: ellipsis; white-space: pre; vertical-align: bottom;
}
.nbstep-l.nbstep-l td.k small { font-size: inherit; color: var(--n-faint); margin-left: .5em; }
.nbstep-l.nbstep-l td.d { white-space: normal; overflow-wrap: anywhere; min-width: 15em; max-width: 48em; padding-right: 4px; }
.nbstep-l.nbstep-l td.n { text-align: right; font-variant-numeric: tabular-nums; }
.nbstep-l.nbstep-l td.f, .nbstep-l.nbstep-l .kept td:first-child { color: var(--n-faint); }
.nbstep-l.nbstep-l .failed td:first-child,
.nbstep-l.nbstep-l .failed .w, .nbstep-l.nbstep-l .failed .d { color: var(--n-red); }
.nbstep-l.nbstep-l .old td:first-child, .nbstep-l.nbstep-l .old .w { color: var(--n-amber); }
.nbstep-l.nbstep-l .busy td:first-child, .nbstep-l.nbstep-l .busy .w { color: var(--n-blue); }
.nbstep-l.nbstep-l .failed .w, .nbstep-l.nbstep-l .old .w, .nbstep-l.nbstep-l .busy .w { font-weight: 600; }
.nbstep-l.nbstep-l td.b { width: 56px; min-width: 56px; vertical-align: top; padding-top: 10px; }
.nbstep-l.nbstep-l .b span { display: block; height: 4px; border-radius: 2px; background: var(--n-blue); }
.nbstep-l.nbstep-l .kept .b span, .nbstep-l.nbstep-l .old .b span { background: var(--n-faint); opacity: .45; }
.nbstep-l.nbstep-l .failed .b span { background: var(--n-red); }
.nbstep-l.nbstep-l .g { display: flex; align-items: center; gap: 10px; margin: 0 0 4px; font-variant-numeric: tabular-nums; }
.nbstep-l.nbstep-l .g .b {
  display: flex; width: 240px; height: 4px; border-radius: 2px; background: var(--n-line); overflow: hidden;
}
.nbstep-l.nbstep-l .g .b span { border-radius: 0; }
.nbstep-l.nbstep-l .g .kept { background: var(--n-faint); }
.nbstep-l.nbstep-l .g .failed { background: var(--n-red); }
.nbstep-l.nbstep-l ul { margin: 5px 0 0; padding: 0; list-style: none; }
.nbstep-l.nbstep-l li { margin: 0; padding-left: 1.6em; text-indent: -1.6em; overflow-wrap: anywhere; }
.nbstep-l.nbstep-l li::before {
  content: "!"; display: inline-block; width: 1.6em; text-indent: .35em; font-weight: 600; color: var(--n-amber);
}
.nbstep-l.nbstep-l .p { padding-left: 1.6em; font-variant-numeric: tabular-nums; }
.nbstep-l.nbstep-l table + .p { margin-top: 5px; }
.nbstep-l.nbstep-l .o { margin-top: 5px; font-size: 12px; font-variant-numeric: tabular-nums; color: var(--n-faint); }
@container (max-width: 900px) {
  /* too narrow for a column of details: they stand below their rows */
  .nbstep-l.nbstep-l table:has(td.d) {
    display: grid; grid-template-columns: max-content minmax(6em, max-content) repeat(5, max-content) minmax(0, 1fr);
  }
  .nbstep-l.nbstep-l table:has(td.d) :is(tbody, tr) { display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; }
  .nbstep-l.nbstep-l table:has(td.d) tr { align-items: baseline; padding: 0; border-top: 1px solid var(--n-line); }
  .nbstep-l.nbstep-l table:has(td.d) td { box-sizing: border-box; border: 0; }
  .nbstep-l.nbstep-l table:has(td.d) td:first-child { width: 1.8em; }
  .nbstep-l.nbstep-l table:has(td.d) td.b { width: 70px; align-self: start; }
  .nbstep-l.nbstep-l table:has(td.d) td.k { max-width: none; }
  .nbstep-l.nbstep-l table:has(td.d) td.d { grid-column: 2 / -1; min-width: 0; max-width: none; }
  .nbstep-l.nbstep-l table:has(td.d) td.d:empty { display: none; }
}
@container (max-width: 620px) {
  .nbstep-l.nbstep-l table td.b, .nbstep-l.nbstep-l table td:nth-child(6) { display: none; }
  .nbstep-l.nbstep-l table:not(:has(td.d)) td.k { max-width: 10em; }
}
"""

STYLE: Final = re.sub(r"\s*([{};,])\s*|(:) +|/\*.*?\*/\s*", r"\1\2", _SHEET.strip())
