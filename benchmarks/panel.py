"""How soon the panel stands: rows painted in a bare page of a real Chromium, from the first message to the next frame.

    python benchmarks/panel.py [--runs 5]

Medians of whole paints after one unmeasured round. The rows arrive in parts of 5,000, as the kernel sends them.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import sync_playwright

import nbstep.notebook

STATIC = Path(nbstep.notebook.__file__).parent / "static"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

PAINT = """async (count) => {
    const heard = [];
    const hex = (n) => n.toString(16).padStart(64, "0");
    const rows = Array.from({length: count}, (_, n) => [hex(n), `events:page:${n}`, n % 9 ? "ok" : "failed",
        "pandas.DataFrame", "8,120 × 14", n % 9 ? "" : "404 Not Found", n * 100, n / 100, 1e9 + n, null, n % 5, null, 0]);
    const totals = {entries: count, failed: 1, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here"};
    const model = {on: (_, hear) => heard.push(hear), off() {}, send() {}};
    const started = performance.now();
    const el = document.body.appendChild(document.createElement("div"));
    const close = window.panel.default.render({model, el});
    for (let at = 0; at < count; at += 5000) heard[0]({kind: "rows", first: at === 0, last: at + 5000 >= count,
        rows: rows.slice(at, at + 5000), now: Date.now() / 1000, totals});
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const seconds = (performance.now() - started) / 1000;
    const made = el.querySelectorAll(".nbstep-row").length;
    close();
    el.remove();
    return {seconds, made};
}"""


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Times painting the panel.")
    parser.add_argument("--runs", type=int, default=5, help="measured paints a row (default: 5)")
    runs = parser.parse_args().runs
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        parser.error("no Chromium found: install the package `chromium`")
    source = base64.b64encode((STATIC / "panel.js").read_bytes()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.evaluate(f"async () => {{ window.panel = await import('data:text/javascript;base64,{source}'); }}")
        page.add_style_tag(path=STATIC / "panel.css")
        for count in (100, 10_000, 100_000):
            seconds = [page.evaluate(PAINT, count)["seconds"] for _ in range(runs + 1)][1:]
            low, high = min(seconds), max(seconds)
            print(f"{count:>9,} rows   {statistics.median(seconds):6.2f} s   ({low:.2f} to {high:.2f})")
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
