// The panel's front end: a virtual table of kept entries. Plain DOM, no build step.
//
// All text comes from the cache and is foreign: it reaches the page through textContent and title only, never as markup.
// Rows arrive as messages, not as widget state, so that nothing of them is saved with the notebook.

const ROW_PX = 26;
const HEAD_PX = 27; // the columns' names, which stay above the rows
const VISIBLE_ROWS = 15;
const OVERSCAN = 6;
const SLOW_ANSWER_MS = 1500;
const KERNEL_IS_BUSY =
  "Waiting for the kernel: it answers when the running cell ends; after a restart, run %load_ext nbstep and %nbstep panel again.";
const KERNEL_IS_GONE = "This panel's kernel is gone: run %load_ext nbstep and %nbstep panel again. Its list is no longer kept up to date.";
const HINT_WITHOUT_KERNEL = "What is listed can still be searched, sorted and grouped.";
const HINT = "Click, Shift, Ctrl or the arrow keys select. Delete removes what is selected.";
const RERUN_TITLE = "Delete old values, so that their steps run again";
const ACCEPT_TITLE = "Keep old values: they count as made by the code and inputs of now";
const UNTRUSTED_TITLE = "Somebody else signed these: steps do not use them. nbstep trust shows and accepts them";
const TICK_MS = 20_000; // ages go on, and the kernel, which forgets a page that says nothing for five minutes, hears of this one
const ROWS_MEASURED = 500; // for the widths of columns
const KEY_CHARS = [12, 40]; // the least and the most that a column's share of the room is reckoned by
const WHAT_CHARS = [12, 60];
const KEY_WHOLE_CHARS = 24; // of keys no longer than that nothing is cut, where there is room for more than the mark
const KEY_CHAR_PX = 7.3;
const CELL_PADDING_PX = 20;
const END_CHARS = 8; // of a key that is cut: the rows of a map differ in their ends
const CUT_FROM_CHARS = 14;
const PLAIN = /^[ -~]*$/; // reads from left to right
const NOTE_STAYS_MS = 4000; // at least, whatever changes meanwhile: as long as it takes to read it
const MARKS = { ok: "✓", failed: "✕", "old value": "▲", untrusted: "?" };
const URL_BEGINS = /^[a-z][a-z0-9+.-]*:\/\//i;
const PNG = /^iVBORw0KGgo[A-Za-z0-9+/]*={0,2}$/; // in base64, with its first eight bytes
const FIELDS = [
  "id", "label", "status", "type", "shape", "message", "size", "took", "created", "expires", "hits", "used", "saved",
  "asked",
];
// What is shown: the bits of a row's `asked`, as in nbstep/commands/asked.py; 0 is everything.
const SCOPES = [
  { asked: 1, title: "This notebook", says: "What this notebook kept or used" },
  { asked: 2, title: "Last run", says: "What the last run used" },
  { asked: 0, title: "Whole project", says: "Everything in this cache" },
];
const NOTHING_IN_SCOPE = "Nothing of that is kept. Whole project shows the rest.";
const FOLDS = { ArrowRight: true, ArrowLeft: false, Enter: undefined };
const WORST_FIRST = ["failed", "old value", "untrusted", "ok"];

// Words for numbers: the same as nbstep/durations.py, checked against it by the tests.

export function durationText(seconds) {
  if (seconds < 0.095) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [big, small, bigName, smallName] =
    whole < 3600 ? [60, 1, "m", "s"] : whole < 86400 ? [3600, 60, "h", "m"] : [86400, 3600, "d", "h"];
  const rest = Math.floor((whole % big) / small);
  return `${Math.floor(whole / big)} ${bigName}` + (rest ? ` ${rest} ${smallName}` : "");
}

export function ageText(seconds) {
  if (seconds < 1) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  let size = bytes;
  for (const unit of ["KB", "MB", "GB", "TB"]) {
    size /= 1000;
    if (size < 999.5 || unit === "TB") return `${size.toFixed(size < 9.95 && unit !== "KB" ? 1 : 0)} ${unit}`;
  }
}

export function expiryText(expires, now) {
  if (expires === null) return "";
  return expires > now ? `in ${durationText(expires - now)}` : "expired";
}

function countText(count, one, many) {
  return `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
}

export function whatText(row) {
  const short = row.type.slice(row.type.lastIndexOf(".") + 1);
  if (row.status === "failed" && row.message) return `${short}: ${row.message}`;
  const value = `${short} ${row.shape}`.trim();
  return row.status !== "failed" && row.message ? `${value} · ${row.message}` : value;
}

// Queries: the language of `nbstep ls` (nbstep/listing.py), here so that searching works while the kernel is busy.

const UNIT_S = { ms: 0.001, s: 1, m: 60, min: 60, h: 3600, d: 86400, w: 604800 };

function readDuration(text) {
  const part = /\s*(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])\s*/y;
  let total = 0;
  let at = 0;
  for (let found; (found = part.exec(text)); at = part.lastIndex) total += Number(found[1]) * UNIT_S[found[2]];
  return at > 0 && at === text.length ? total : null;
}

function isGlob(text) {
  return text.includes("*") || text.includes("?");
}

function globExpression(glob) {
  const chars = [...glob];
  let source = "";
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at];
    if (char === "*") source += ".*";
    else if (char === "?") source += ".";
    else if (char === "[") {
      let end = at + 1;
      if (chars[end] === "!") end++;
      if (chars[end] === "]") end++;
      while (end < chars.length && chars[end] !== "]") end++;
      if (end >= chars.length) source += "\\[";
      else {
        const negated = chars[at + 1] === "!";
        const inside = chars.slice(at + (negated ? 2 : 1), end).map((c) => (/[\\\]^[]/.test(c) ? `\\${c}` : c));
        source += `[${negated ? "^" : ""}${inside.join("")}]`;
        at = end;
      }
    } else source += /[\\^$.*+?()[\]{}|/]/.test(char) ? `\\${char}` : char;
  }
  try {
    return new RegExp(`^(?:${source})$`, "su");
  } catch {
    return /[^\s\S]/;
  }
}

export function parseQuery(text) {
  const words = [];
  let problem = "";
  for (const [all, quoted, word] of text.matchAll(/"([^"]*)"?|(\S+)/g)) {
    if (word === undefined) {
      if (all.replaceAll('"', "")) words.push({ kind: "text", text: quoted.toLowerCase() });
      continue;
    }
    const rest = word.slice(word.indexOf(":") + 1);
    if (word === "error:") words.push({ kind: "failed" });
    else if (word.startsWith("error:")) {
      const type = rest.toLowerCase();
      words.push({ kind: "type", text: type, glob: isGlob(type) ? globExpression(type) : null });
    } else if (word.startsWith("unused:")) {
      const seconds = readDuration(rest);
      if (seconds === null) problem = `${word} is no duration; write for example unused:30d`;
      else words.push({ kind: "unused", seconds });
    } else if (word === "old:") words.push({ kind: "old" });
    else if (isGlob(word)) words.push({ kind: "glob", glob: globExpression(word) });
    else words.push({ kind: "text", text: word.toLowerCase() });
  }
  return { words, problem };
}

export function matches(words, row, now) {
  return words.every((word) => {
    if (word.kind === "failed") return row.status === "failed";
    if (word.kind === "old") return row.status === "old value";
    if (word.kind === "type") {
      const type = row.type.toLowerCase();
      return row.status === "failed" && (word.glob ? word.glob.test(type) : type.includes(word.text));
    }
    if (word.kind === "glob") return word.glob.test(row.label);
    if (word.kind === "unused") return now - Math.max(row.created, row.used ?? 0) >= word.seconds;
    row.found ??= `${row.label}\n${row.type}\n${row.message}`.toLowerCase();
    return row.found.includes(word.text);
  });
}

// Small DOM tools

function nameOf(node) {
  return node.title || node.ariaLabel;
}

function hasFocus(node) {
  return node.matches(":focus, :focus-within");
}

// Where a key does not fit its middle goes, not its end.
function fillKey(cell, text) {
  const isCut = text.length >= CUT_FROM_CHARS && PLAIN.test(text);
  cell.classList.toggle("nbstep-parted", isCut);
  if (isCut) {
    cell.replaceChildren(element("span", "", text.slice(0, -END_CHARS)), element("span", "", text.slice(-END_CHARS)));
    cell.setAttribute("aria-label", text); // one word, for screen readers
  } else {
    cell.textContent = text;
    cell.removeAttribute("aria-label");
  }
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// JupyterLab's command-mode keys (D, D deletes the cell) reach a focused element unless it says so itself.
function focusable(node, tabIndex) {
  node.dataset.lmSuppressShortcuts = "true";
  if (tabIndex !== undefined) node.tabIndex = tabIndex;
  return node;
}

function button(text, title, act, className = "") {
  const made = focusable(element("button", `nbstep-button ${className}`.trim(), text));
  made.type = "button";
  made.title = title;
  made.addEventListener("click", act);
  return made;
}

// What the inputs of a step were and are; those that changed stand first.
function inputList(inputs) {
  const list = element("dl", "nbstep-facts nbstep-inputs");
  for (const [name, text, changed] of inputs) {
    list.append(element("dt", "", name), element("dd", changed ? "nbstep-old" : "", text));
  }
  return list;
}

// Made of bytes that are a PNG: nothing else becomes an address.
function thumbnail({ label, thumbnail }) {
  const picture = element("img", "nbstep-thumbnail");
  picture.alt = `Picture of ${label}`;
  picture.src = `data:image/png;base64,${thumbnail}`;
  return picture;
}

// Long text, which the keyboard can scroll.
function textBox(name, className = "", text = undefined) {
  const box = focusable(element("pre", `nbstep-text ${className}`.trim(), text), 0);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", name);
  return box;
}

function diffBox(name, text) {
  const box = textBox(name, "nbstep-diff");
  for (const line of text.split("\n")) {
    const kind = line.startsWith("+") ? "nbstep-added" : line.startsWith("-") ? "nbstep-removed" : "";
    box.append(element("span", kind, `${line}\n`));
  }
  return box;
}

const byText = new Intl.Collator("en", { numeric: true }).compare;
const COLUMNS = [
  { name: "status", title: "Status", text: (row) => `${MARKS[row.status]} ${row.status}`, order: (row) => row.status, texts: true },
  { name: "key", title: "Key", text: (row) => row.label, order: (row) => row.label, texts: true },
  { name: "what", title: "Type and shape", text: whatText, order: whatText, texts: true },
  { name: "size", title: "Size", text: (row) => sizeText(row.size), order: (row) => row.size, right: true },
  {
    name: "took", title: "Took", right: true,
    text: (row) => (row.took ? durationText(row.took) : ""), order: (row) => row.took,
  },
  {
    name: "age", title: "Age", right: true,
    text: (row, now) => ageText(Math.max(0, now - row.created)), order: (row) => -row.created,
  },
  {
    name: "expires", title: "Expires", right: true,
    text: (row, now) => expiryText(row.expires, now), order: (row) => row.expires ?? Infinity,
  },
  {
    name: "hits", title: "Hits", right: true,
    text: (row) => (row.hits ? row.hits.toLocaleString("en-US") : ""), order: (row) => row.hits,
  },
];
const LARGE_FIRST = new Set(["size", "took", "hits"]);

// What rows are grouped by, as the step list folds them (prefix_of in nbstep/notebook/folding.py).
export function prefixOf(label) {
  const found = /^(?:(.*[:/=])[^:/=]*|(.*?)[0-9]+)/s.exec(label);
  return `${found && found[0].length === label.length ? (found[1] ?? found[2] ?? "") : ""}*`;
}

function prefixOfRow(row) {
  return (row.prefix ??= prefixOf(row.label));
}

function groupBy(rows, nameOf) {
  const groups = new Map();
  for (const row of rows) {
    const name = nameOf(row);
    if (groups.has(name)) groups.get(name).push(row);
    else groups.set(name, [row]);
  }
  return groups;
}

function sum(rows, field) {
  return rows.reduce((total, row) => total + row[field], 0);
}

// A row that stands for several; one alone under its prefix stays as it is, as those without a prefix do.
function groupOf(prefix, rows, open) {
  if (rows.length === 1) return rows[0];
  const counts = WORST_FIRST.map((status) => [status, rows.filter((row) => row.status === status).length]);
  const told = counts.filter(([status, count]) => count && status !== "ok");
  const apart = told.map(([status, count]) => (status === "old value" ? countText(count, status, "old values") : `${count.toLocaleString("en-US")} ${status}`));
  return {
    id: `group ${prefix}`, group: rows, open, label: `${prefix} ×${rows.length.toLocaleString("en-US")}`,
    status: counts.find(([, count]) => count)[0], type: "", shape: apart.join(", "), message: "", expires: null,
    size: sum(rows, "size"), took: sum(rows, "took"), hits: sum(rows, "hits"), created: rows.reduce((last, row) => Math.max(last, row.created), 0),
  };
}

// Two sorted lists as one.
function merged(many, few, compare) {
  const all = [];
  let at = 0;
  for (const row of many) {
    while (at < few.length && compare(few[at], row) < 0) all.push(few[at++]);
    all.push(row);
  }
  return all.concat(few.slice(at));
}

// The cell around the panel, as far as the page has such.
function leaveTo(el) {
  el.closest("[tabindex]")?.focus({ preventScroll: true });
}

// `model` brings what the other side says and takes what it is asked: a kernel's widget, or the sidebar's requests.
export class Panel {
  constructor(model, el, { fill = false, waiting = KERNEL_IS_BUSY, snapshot = null, leave = () => leaveTo(el) } = {}) {
    this.model = model;
    this.fill = fill; // as high as its place, instead of as its rows
    this.hint = fill ? "" : HINT;
    this.waiting = waiting;
    this.leave = leave; // gives the keyboard back to what is around the panel
    this.rows = new Map(); // id -> row
    this.coming = this.rows; // where the rows of messages go until all came
    this.sorted = null; // all rows in order; null when they are to be sorted anew
    this.shown = []; // those of them that are asked for
    this.view = []; // the same, in groups where that is wanted; a row's `at` is its index here, or undefined
    this.scope = null; // one of SCOPES, once there are rows
    this.grouped = false;
    this.groups = new Map(); // id -> the row that stands for a group
    this.opened = new Set(); // ids of groups
    this.turn = 0; // of arranging; a row that is in view, or in a group there, bears the last one
    this.selected = new Set(); // ids
    this.cursor = null; // id of the row the keyboard is on
    this.anchor = null; // id where a range began
    this.detailId = null;
    this.noted = null; // what there is to know of a note in the foot, while one stands there
    this.ticking = []; // what says an age in the details, each with what it says now
    this.detailActions = []; // its buttons that ask something of the kernel
    this.touched = null; // ids of what changed since something was done, until the note of that comes
    this.order = { column: COLUMNS.find((c) => c.name === "age"), reverse: false };
    this.query = parseQuery("");
    this.totals = null;
    this.lost = false; // no message reaches the kernel any more
    this.clockOffset = 0;
    this.complete = false;
    this.painted = [];
    this.id = `nbstep-${Math.random().toString(36).slice(2, 8)}`;
    this.build(el);
    this.onMessage = (message) => this.receive(message);
    model.on("msg:custom", this.onMessage);
    this.timer = setInterval(() => {
      this.paint();
      this.tickDetail();
      if (this.toldSight) this.sendSight();
    }, TICK_MS);
    this.resized = new ResizeObserver(() => {
      if (fill) this.showCursor(); // the details, opening, leave the table less room
      this.paint();
    });
    this.resized.observe(this.grid);
    this.inSight = false;
    this.onSight = (event) => this.tellSight(event);
    this.sight = new IntersectionObserver((seen) => {
      this.inSight = seen.at(-1).isIntersecting;
      this.tellSight();
    });
    this.sight.observe(this.root);
    document.addEventListener("visibilitychange", this.onSight);
    window.addEventListener("pagehide", this.onSight);
    this.root.addEventListener("pointerenter", () => this.sendSight()); // before anybody clicks, it says whether it is lost
    this.snapshot = snapshot;
    this.root.hidden = snapshot !== null; // until a kernel answers
    this.send({ kind: "ready", view: this.id });
  }

  close() {
    this.sight.disconnect();
    document.removeEventListener("visibilitychange", this.onSight);
    window.removeEventListener("pagehide", this.onSight);
    this.send({ kind: "closed", view: this.id });
    this.model.off("msg:custom", this.onMessage);
    clearInterval(this.timer);
    clearTimeout(this.slowTimer);
    clearTimeout(this.detailTimer);
    this.resized.disconnect();
    this.snapshot?.restore();
  }

  // The kernel looks for what other kernels change only while somebody can see it.
  tellSight(event) {
    const seen = this.inSight && !document.hidden && event?.type !== "pagehide";
    if (seen === this.toldSight) return;
    this.toldSight = seen;
    this.sendSight();
  }

  sendSight() {
    this.send({ kind: "seen", view: this.id, inSight: Boolean(this.toldSight) });
  }

  now() {
    return Date.now() / 1000 + this.clockOffset;
  }

  // Building the page's part

  build(el) {
    this.root = element("div", this.fill ? "nbstep-panel nbstep-fill" : "nbstep-panel");
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Kept steps (nbstep)");
    this.root.append(this.buildLoss(), this.buildHead(), this.buildBar(), this.buildQuestion(), this.buildMain(), this.buildFoot());
    for (const gesture of ["click", "keydown"]) this.root.addEventListener(gesture, () => this.onGesture(), true);
    el.append(this.root);
    this.applyTotals();
  }

  buildLoss() {
    this.loss = element("div", "nbstep-loss");
    this.loss.setAttribute("role", "alert");
    this.loss.hidden = true;
    return this.loss;
  }

  buildHead() {
    this.head = element("div", "nbstep-head");
    return this.head;
  }

  buildBar() {
    const bar = element("div", "nbstep-bar");
    this.search = focusable(element("input", "nbstep-search"));
    this.search.type = "search";
    this.search.placeholder = "Search: text, user:*, error:, old:, unused:30d";
    this.search.setAttribute("aria-label", "Search the entries");
    this.search.spellcheck = false;
    this.search.addEventListener("input", () => this.setQuery(this.search.value));
    this.search.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "ArrowDown") {
        event.preventDefault();
        this.grid.focus();
        if (this.cursor === null && this.view.length) this.pickOnly(this.view[0].id);
      }
    });
    const buttons = element("div", "nbstep-buttons");
    this.deleteButton = button("Delete", "Delete the selected entries (Delete)", () => this.deleteSelected());
    this.retryButton = button("Retry", "Delete the selected errors, so that their steps run again", () =>
      this.actOn("retry", "failed"),
    );
    this.rerunButton = button("Re-run", RERUN_TITLE, () => this.actOn("rerun", "old value"));
    this.acceptButton = button("Accept", ACCEPT_TITLE, () => this.actOn("accept", "old value"));
    this.undoButton = button("Undo", "Bring back what was last deleted, replaced or accepted (Ctrl Z)", () => this.act({ kind: "undo" }));
    this.errorsButton = button("Delete all errors", "Delete every kept error, so that those steps run again", () =>
      this.deleteErrors(),
    );
    this.clearButton = button("Clear", "Delete every entry; asks first", () => this.askToClear());
    this.refreshButton = button("Refresh", "Read the cache again: other kernels may have changed it", () =>
      this.act({ kind: "refresh" }),
    );
    buttons.append(
      this.deleteButton, this.retryButton, this.rerunButton, this.acceptButton, this.undoButton, this.errorsButton,
      this.clearButton,
    );
    if (!this.fill) buttons.append(this.refreshButton); // a sidebar looks again by itself
    bar.append(this.buildScopes(), this.search, buttons);
    return bar;
  }

  buildScopes() {
    this.scopes = element("div", "nbstep-buttons nbstep-scopes");
    this.scopes.setAttribute("role", "group");
    this.scopes.setAttribute("aria-label", "Which entries");
    this.scopeButtons = SCOPES.map((scope) => {
      const made = button("", scope.says, () => this.chooseScope(scope));
      this.scopes.append(made);
      return made;
    });
    this.groupButton = button("Group", "Put keys with the same beginning together", () => {
      this.grouped = !this.grouped;
      this.grid.scrollTop = 0;
      this.arrange();
    });
    this.scopes.append(this.groupButton);
    return this.scopes;
  }

  buildQuestion() {
    this.question = element("div", "nbstep-question");
    this.question.setAttribute("role", "alertdialog");
    this.question.hidden = true;
    this.questionText = element("div", "nbstep-question-text");
    this.questionText.id = `${this.id}-question`;
    this.question.setAttribute("aria-labelledby", this.questionText.id);
    this.answers = element("div", "nbstep-buttons");
    this.question.append(this.questionText, this.answers);
    this.question.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.closeQuestion();
    });
    return this.question;
  }

  buildMain() {
    const main = element("div", "nbstep-main");
    this.table = element("div", "nbstep-table");
    this.table.append(this.buildGrid(), this.empty);
    main.append(this.table, this.buildDetail());
    return main;
  }

  buildGrid() {
    this.grid = focusable(element("div", "nbstep-grid"), 0);
    this.grid.setAttribute("role", "grid");
    this.grid.setAttribute("aria-label", "Kept entries");
    this.grid.setAttribute("aria-multiselectable", "true");
    this.grid.setAttribute("aria-colcount", COLUMNS.length);
    const headGroup = element("div", "nbstep-head-row");
    headGroup.setAttribute("role", "row");
    headGroup.setAttribute("aria-rowindex", 1);
    this.headers = COLUMNS.map((column, number) => {
      const cell = element("div", `nbstep-cell nbstep-${column.name}${column.right ? " nbstep-right" : ""}`);
      cell.setAttribute("role", "columnheader");
      cell.setAttribute("aria-colindex", number + 1);
      const sorter = focusable(element("button", "nbstep-sorter", column.title));
      sorter.type = "button";
      sorter.addEventListener("click", () => this.sortBy(column));
      cell.append(sorter);
      headGroup.append(cell);
      return cell;
    });
    this.grid.addEventListener("scroll", () => this.paint(), { passive: true });
    this.space = element("div", "nbstep-space");
    this.space.setAttribute("role", "rowgroup");
    this.space.addEventListener("mousedown", (event) => {
      event.preventDefault(); // no text selection; the grid keeps the keyboard
      this.grid.focus({ preventScroll: true });
    });
    this.space.addEventListener("click", (event) => this.onClick(event));
    this.empty = element("div", "nbstep-empty", "Reading the cache …");
    this.grid.append(headGroup, this.space);
    this.grid.addEventListener("keydown", (event) => this.onKey(event));
    return this.grid;
  }

  buildDetail() {
    this.detail = focusable(element("section", "nbstep-detail"), -1);
    this.detail.hidden = true;
    this.detail.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.closeDetail();
    });
    return this.detail;
  }

  buildFoot() {
    const foot = element("div", "nbstep-foot");
    this.note = element("span", "nbstep-note", this.hint);
    this.note.setAttribute("role", "status");
    this.note.setAttribute("aria-live", "polite");
    this.picked = element("span", "nbstep-picked");
    this.picked.setAttribute("role", "status");
    this.found = element("span", "nbstep-unseen"); // the head says it to the eye
    this.found.setAttribute("role", "status");
    foot.append(this.note, this.picked, this.found);
    return foot;
  }

  // Talking with the kernel

  send(message) {
    try {
      this.model.send(message);
    } catch {
      this.setLost(true);
    }
  }

  // What works without a kernel goes on: searching, sorting, grouping.
  setLost(lost) {
    if (lost) clearTimeout(this.slowTimer);
    if (lost === this.lost) return;
    this.lost = lost;
    this.loss.hidden = !lost;
    this.loss.textContent = lost ? KERNEL_IS_GONE : "";
    this.hint = lost ? HINT_WITHOUT_KERNEL : this.fill ? "" : HINT;
    if (!this.question.hidden) this.closeQuestion();
    this.say(this.hint);
    this.applyTotals();
    this.applySelection();
    for (const acting of this.detailActions) this.enable(acting, true);
  }

  act(message) {
    this.askedFrom = this.root.querySelector(":focus");
    if (this.noted) this.say(this.hint);
    this.touched = new Set();
    this.send({ ...message, view: this.id });
    clearTimeout(this.slowTimer);
    if (!this.lost) this.slowTimer = setTimeout(() => this.say(this.waiting), SLOW_ANSWER_MS);
  }

  receive(message) {
    this.setLost(false);
    if (message.now) this.clockOffset = message.now - Date.now() / 1000;
    if (message.totals) this.totals = message.totals;
    if (message.kind === "rows") this.receiveRows(message);
    else if (message.kind === "change") this.receiveChange(message);
    else if (message.kind === "detail") this.showDetail(message);
    else if (message.kind === "question") this.receiveQuestion(message);
    else if (message.kind === "note") {
      clearTimeout(this.slowTimer);
      this.say(message.text, message.failed);
      this.noted = { at: performance.now(), undoable: message.undoable, lasting: message.lasting, touched: this.touched };
      this.touched = null;
    }
  }

  receiveRows(message) {
    if (this.root.hidden) {
      this.root.hidden = false;
      this.snapshot.hide();
    }
    // Every view hears it when another one begins: what it shows stays until it has heard all rows anew.
    if (message.first) this.coming = new Map();
    for (const values of message.rows) this.takeRow(values, this.coming);
    if (this.complete && !message.last) return;
    this.rows = this.coming;
    this.complete ||= message.last;
    this.sorted = null;
    if (!this.scopeChosen) this.scope = this.firstScope();
    if (message.first || message.last) this.arrange();
    if (this.complete && this.detailId !== null && !this.rows.has(this.detailId)) this.closeDetail();
  }

  receiveChange(message) {
    const top = this.view[Math.floor(this.grid.scrollTop / ROW_PX)];
    const seen = this.view;
    const cursorAt = this.atOf(this.cursor);
    const old = new Set();
    for (const id of [...message.gone, ...message.rows.map((values) => values[0])]) {
      const row = this.rows.get(id);
      if (row) old.add(row);
    }
    for (const id of message.gone) this.rows.delete(id);
    const fresh = message.rows.map((values) => this.takeRow(values));
    if (this.sorted) this.sorted = merged(this.sorted.filter((row) => !old.has(row)), fresh.sort(this.compare()), this.compare());
    this.arrange();
    if (this.cursor === null && cursorAt !== undefined) this.cursor = this.nearest(seen, cursorAt);
    this.keepInPlace(top && this.rowOf(top.id));
    this.paint();
    this.outdate([...message.gone, ...message.rows.map((values) => values[0])]);
    if (this.detailId !== null && !this.rows.has(this.detailId)) this.closeDetail();
    else if (message.rows.some((row) => row[0] === this.detailId)) this.send({ kind: "detail", id: this.detailId });
  }

  // Where the keyboard goes on when its row is gone: to the one below, else the one above.
  nearest(seen, at) {
    const stays = ({ id }) => this.atOf(id) !== undefined;
    return (seen.slice(at).find(stays) ?? seen.slice(0, at).findLast(stays))?.id ?? null;
  }

  // What came or went above it must not move the row that somebody looks at; at the top new rows are to be seen.
  keepInPlace(row) {
    if (row?.at === undefined || this.grid.scrollTop < ROW_PX) return;
    this.grid.scrollTop = row.at * ROW_PX + (this.grid.scrollTop % ROW_PX);
    this.paint();
  }

  takeRow(values, rows = this.rows) {
    const row = { at: undefined, found: undefined, turn: 0, prefix: undefined };
    for (let field = 0; field < FIELDS.length; field++) row[FIELDS[field]] = values[field];
    rows.set(row.id, row);
    return row;
  }

  // What is shown, in which order

  // Opens on what this notebook, or else the last run, has to do with; all where that is all there is.
  firstScope() {
    const counts = this.scopeCounts();
    const first = SCOPES.find(({ asked }) => counts.get(asked) > 0);
    return first && counts.get(first.asked) < this.rows.size ? first : SCOPES.at(-1);
  }

  scopeCounts() {
    const counts = new Map(SCOPES.map(({ asked }) => [asked, 0]));
    for (const row of this.rows.values()) {
      for (const bit of [1, 2]) if (row.asked & bit) counts.set(bit, counts.get(bit) + 1);
    }
    return counts.set(0, this.rows.size);
  }

  chooseScope(scope) {
    this.scope = scope;
    this.scopeChosen = true;
    this.grid.scrollTop = 0;
    this.arrange();
  }

  applyScopes() {
    const counts = this.scopeCounts();
    SCOPES.forEach((scope, number) => {
      const made = this.scopeButtons[number];
      const count = counts.get(scope.asked);
      made.textContent = `${scope.title} ${count.toLocaleString("en-US")}`;
      made.setAttribute("aria-pressed", scope === this.scope);
      made.hidden = scope.asked !== 0 && scope !== this.scope && (count === 0 || count === this.rows.size);
    });
    this.scopeButtons.at(-1).hidden = this.scopeButtons.slice(0, -1).every((made) => made.hidden);
    this.groupButton.setAttribute("aria-pressed", this.grouped);
  }

  inGroups(rows) {
    const made = [...groupBy(rows, prefixOfRow)].flatMap(([prefix, members]) =>
      prefix === "*" ? members : [groupOf(prefix, members, this.opened.has(`group ${prefix}`))],
    );
    this.groups = new Map(made.filter((row) => row.group).map((row) => [row.id, row]));
    return made.sort(this.compare()).flatMap((row) => (row.open ? [row, ...row.group] : [row]));
  }

  fold(group, open = !group.open) {
    if (open) this.opened.add(group.id);
    else this.opened.delete(group.id);
    this.arrange();
  }

  setQuery(text) {
    this.query = parseQuery(text);
    if (this.query.problem || !this.noted) this.say(this.query.problem || this.hint);
    this.grid.scrollTop = 0;
    this.arrange();
    const entries = countText(this.rows.size, "entry", "entries");
    this.found.textContent = this.query.words.length ? `${this.view.length.toLocaleString("en-US")} of ${entries}` : entries;
  }

  sortBy(column) {
    this.order = { column, reverse: this.order.column === column ? !this.order.reverse : LARGE_FIRST.has(column.name) };
    this.sorted = null;
    this.arrange();
  }

  compare() {
    const { column, reverse } = this.order;
    const sign = reverse ? -1 : 1;
    const { order } = column;
    const newest = (a, b) => b.created - a.created; // the order of what the column does not tell apart
    if (column.texts) return (a, b) => sign * byText(order(a), order(b)) || newest(a, b);
    return (a, b) => (order(a) === order(b) ? newest(a, b) : sign * (order(a) - order(b)));
  }

  arrange() {
    const now = this.now();
    const { column, reverse } = this.order;
    this.sorted ??= [...this.rows.values()].sort(this.compare());
    for (const row of this.view) row.at = undefined;
    const { words } = this.query;
    const asked = this.scope?.asked ?? 0;
    const ofScope = asked ? this.sorted.filter((row) => row.asked & asked) : this.sorted;
    this.shown = words.length ? ofScope.filter((row) => matches(words, row, now)) : ofScope;
    this.groups = new Map();
    this.view = this.grouped ? this.inGroups(this.shown) : this.shown;
    for (let at = 0; at < this.view.length; at++) this.view[at].at = at;
    this.turn++;
    for (const row of this.shown) row.turn = this.turn;
    // What is not in view is not selected: Delete must never reach rows that nobody sees.
    for (const id of this.selected) if (this.rows.get(id)?.turn !== this.turn) this.selected.delete(id);
    if (this.atOf(this.cursor) === undefined) this.cursor = null;
    if (this.atOf(this.anchor) === undefined) this.anchor = this.cursor;
    this.table.classList.toggle("nbstep-no-expiry", this.shown.every((row) => row.expires === null));
    this.shareRoom();
    this.headers.forEach((cell, number) => {
      const sorted = COLUMNS[number] === column;
      if (sorted) cell.setAttribute("aria-sort", reverse ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    this.grid.setAttribute("role", this.grouped ? "treegrid" : "grid");
    this.applyScopes();
    this.applyTotals();
    this.applySelection();
    this.paint();
  }

  // Keys and messages share the room by how long they are: short keys leave it to long messages.
  shareRoom() {
    const rows = this.view.slice(0, ROWS_MEASURED);
    const share = (text, [least, most]) => `${rows.reduce((longest, row) => Math.min(most, Math.max(longest, text(row).length)), least)}fr`;
    this.grid.style.setProperty("--nbstep-for-key", share((row) => row.label, KEY_CHARS));
    this.grid.style.setProperty("--nbstep-for-what", share(whatText, WHAT_CHARS));
    const longest = rows.reduce((most, row) => Math.max(most, row.label.length), 0);
    const least = Math.min(longest, KEY_WHOLE_CHARS) * KEY_CHAR_PX + CELL_PADDING_PX;
    this.grid.style.setProperty("--nbstep-key-least", `${Math.ceil(least)}px`);
  }

  atOf(id) {
    return this.rowOf(id)?.at;
  }

  rowOf(id) {
    return this.rows.get(id) ?? this.groups.get(id);
  }

  applyTotals() {
    const totals = this.totals;
    const parts = [];
    if (totals) {
      const entries = countText(totals.entries, "entry", "entries");
      const narrowed = this.query.words.length > 0 || Boolean(this.scope?.asked);
      parts.push(element("strong", "", narrowed ? `${this.shown.length.toLocaleString("en-US")} of ${entries}` : entries));
      if (totals.failed) {
        const failed = `${totals.failed.toLocaleString("en-US")} failed`;
        parts.push(this.queryLink(failed, "Show only the errors", "error:", "nbstep-failed"));
      }
      if (totals.old) {
        const old = countText(totals.old, "old value", "old values");
        parts.push(this.queryLink(old, "Show only the old values", "old:", "nbstep-old"));
      }
      if (totals.untrusted) {
        const untrusted = element("span", "nbstep-untrusted", `${totals.untrusted.toLocaleString("en-US")} untrusted: nbstep trust`);
        untrusted.title = UNTRUSTED_TITLE;
        parts.push(untrusted);
      }
      parts.push(element("span", "", `${sizeText(totals.size)} on disk`));
      if (totals.trashEntries) parts.push(this.trashText(totals.trash));
      if (totals.saved > 0) parts.push(element("span", "", `${durationText(totals.saved)} saved`));
      parts.push(element("span", "nbstep-place", totals.place));
    }
    this.refill(this.head, parts);
    this.enable(this.undoButton, totals?.trashEntries);
    this.enable(this.errorsButton, totals?.failed);
    this.enable(this.clearButton, totals?.entries);
    this.enable(this.refreshButton, true);
    this.empty.hidden = this.view.length > 0;
    if (this.complete) {
      const nothing = "Nothing kept yet. A step with a key appears here when it has run.";
      const back = totals?.trashEntries ? " Undo brings back what was deleted." : "";
      const none = this.query.words.length ? "No entry matches the search." : NOTHING_IN_SCOPE;
      this.empty.textContent = this.rows.size ? none : nothing + back;
    }
  }

  trashText(bytes) {
    const text = element("span", "", `${sizeText(bytes)} in trash · `);
    this.emptyButton = button("Empty", "Empty the trash; asks first", () => this.askToEmpty(), "nbstep-link");
    this.enable(this.emptyButton, true);
    text.append(this.emptyButton);
    return text;
  }

  // The head counts the whole project, so that is where its links look.
  queryLink(text, title, query, className) {
    return button(text, title, () => {
      this.chooseScope(SCOPES.at(-1));
      this.search.value = query;
      this.setQuery(query);
    }, `nbstep-link ${className}`);
  }

  // The keyboard is never left on what cannot take it, where the page would hear its keys as the notebook's.

  enable(acting, possible) {
    const able = possible && !this.lost;
    if (!able && hasFocus(acting)) this.takeFocus();
    acting.disabled = !able;
  }

  refill(part, nodes) {
    const held = hasFocus(part) ? nameOf(part.querySelector(":focus") ?? part) : null;
    part.replaceChildren(...nodes);
    if (held === null || hasFocus(part)) return;
    const same = [...part.querySelectorAll("[data-lm-suppress-shortcuts]")].find((node) => nameOf(node) === held);
    if (same) same.focus({ preventScroll: true });
    else this.takeFocus();
  }

  takeFocus() {
    this.grid.focus({ preventScroll: true });
  }

  applySelection() {
    const chosen = [...this.selected].map((id) => this.rows.get(id)).filter(Boolean);
    this.enable(this.deleteButton, chosen.length);
    this.enable(this.retryButton, chosen.some((row) => row.status === "failed"));
    const old = chosen.some((row) => row.status === "old value");
    for (const acting of [this.rerunButton, this.acceptButton]) {
      this.enable(acting, old);
      acting.hidden = !old && !this.totals?.old;
    }
    const size = chosen.reduce((sum, row) => sum + row.size, 0);
    this.picked.textContent = chosen.length ? `${chosen.length.toLocaleString("en-US")} selected · ${sizeText(size)}` : "";
  }

  paint() {
    const count = this.view.length;
    this.space.style.height = `${count * ROW_PX}px`;
    if (!this.fill) this.grid.style.height = `${HEAD_PX + Math.min(count, VISIBLE_ROWS) * ROW_PX}px`;
    this.space.hidden = count === 0;
    // Counted with the header row, as ARIA wants it.
    this.grid.setAttribute("aria-rowcount", count + 1);
    const first = Math.max(0, Math.floor(this.grid.scrollTop / ROW_PX) - OVERSCAN);
    const last = Math.min(count, first + this.visibleRows() + 2 * OVERSCAN);
    while (this.painted.length < last - first) this.painted.push(this.makeRow());
    while (this.painted.length > last - first) this.painted.pop().remove();
    const now = this.now();
    for (let at = first; at < last; at++) this.fillRow(this.painted[at - first], this.view[at], at, now);
    const cursorAt = this.atOf(this.cursor);
    if (cursorAt >= first && cursorAt < last) this.grid.setAttribute("aria-activedescendant", `${this.id}-${cursorAt}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  visibleRows() {
    return this.fill ? Math.max(1, Math.floor((this.grid.clientHeight - HEAD_PX) / ROW_PX)) : VISIBLE_ROWS;
  }

  makeRow() {
    const node = element("div", "nbstep-row");
    node.setAttribute("role", "row");
    node.cells = COLUMNS.map((column, number) => {
      const cell = element("div", `nbstep-cell nbstep-${column.name}${column.right ? " nbstep-right" : ""}`);
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-colindex", number + 1);
      node.append(cell);
      return cell;
    });
    this.space.append(node);
    return node;
  }

  fillRow(node, row, at, now) {
    const chosen = this.isSelected(row);
    node.id = `${this.id}-${at}`;
    node.dataset.at = at;
    node.style.transform = `translateY(${at * ROW_PX}px)`;
    node.setAttribute("aria-rowindex", at + 2);
    node.setAttribute("aria-selected", chosen);
    node.dataset.status = row.status;
    node.classList.toggle("nbstep-cursor", row.id === this.cursor);
    this.fillFold(node, row);
    COLUMNS.forEach((column, number) => {
      const text = column.text(row, now);
      const cell = node.cells[number];
      if (cell.textContent === text) return;
      if (column.name === "key") fillKey(cell, text);
      else cell.textContent = text;
    });
    node.cells[0].title = row.status === "old value" ? row.message : "";
    node.cells[1].title = row.label;
    node.cells[2].title = row.status === "failed" ? `${row.type}: ${row.message}` : `${row.type} ${row.shape}`.trimEnd();
    if (row.status === "old value") node.cells[2].title += ` · ${row.message}`;
  }

  fillFold(node, row) {
    const inside = this.grouped && !row.group && this.groups.get(`group ${prefixOfRow(row)}`)?.open === true;
    if (row.group) node.dataset.group = row.open ? "open" : "closed";
    else delete node.dataset.group;
    node.classList.toggle("nbstep-inside", inside);
    if (this.grouped) node.setAttribute("aria-level", inside ? 2 : 1);
    else node.removeAttribute("aria-level");
    if (row.group) node.setAttribute("aria-expanded", row.open);
    else node.removeAttribute("aria-expanded");
  }

  // Choosing rows; a group stands for all in it

  idsOf(row) {
    return row.group ? row.group.map(({ id }) => id) : [row.id];
  }

  isSelected(row) {
    return row.group ? row.group.every(({ id }) => this.selected.has(id)) : this.selected.has(row.id);
  }

  onClick(event) {
    const node = event.target.closest(".nbstep-row");
    if (!node) return;
    const row = this.view[Number(node.dataset.at)];
    if (row.group && event.target.closest(".nbstep-key")) this.fold(row);
    if (event.shiftKey) this.extendTo(row.id, event.ctrlKey || event.metaKey);
    else if (event.ctrlKey || event.metaKey) this.toggle(row.id);
    else this.pickOnly(row.id);
  }

  pickOnly(id) {
    this.selected = new Set(this.idsOf(this.rowOf(id)));
    this.anchor = id;
    this.moveCursor(id);
  }

  toggle(id) {
    const row = this.rowOf(id);
    const chosen = this.isSelected(row);
    for (const one of this.idsOf(row)) this.selected[chosen ? "delete" : "add"](one);
    this.anchor = id;
    this.moveCursor(id);
  }

  extendTo(id, keep = false) {
    const from = this.atOf(this.anchor ?? id);
    const to = this.atOf(id);
    if (!keep) this.selected = new Set();
    for (let at = Math.min(from, to); at <= Math.max(from, to); at++) {
      for (const one of this.idsOf(this.view[at])) this.selected.add(one);
    }
    this.anchor ??= id;
    this.moveCursor(id);
  }

  moveCursor(id) {
    this.cursor = id;
    this.showCursor();
    this.applySelection();
    this.paint();
    this.askDetail(id);
  }

  // Scrolls as little as brings the row of the cursor into view.
  showCursor() {
    if (this.atOf(this.cursor) === undefined) return;
    const top = this.atOf(this.cursor) * ROW_PX;
    const height = this.grid.clientHeight - HEAD_PX;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + ROW_PX > this.grid.scrollTop + height) this.grid.scrollTop = top + ROW_PX - height;
  }

  onKey(event) {
    if (event.target !== this.grid) return;
    const command = event.ctrlKey || event.metaKey;
    const at = this.atOf(this.cursor) ?? -1;
    const end = this.view.length - 1;
    const page = this.visibleRows();
    const steps = { ArrowDown: at + 1, ArrowUp: at < 0 ? end : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: end };
    if (event.key in steps && !event.altKey && end >= 0) {
      const id = this.view[Math.max(0, Math.min(end, steps[event.key]))].id;
      if (event.shiftKey) this.extendTo(id);
      else if (command) this.moveCursor(id);
      else this.pickOnly(id);
    } else if (this.groups.has(this.cursor) && event.key in FOLDS) this.fold(this.groups.get(this.cursor), FOLDS[event.key]);
    else if (event.key === " " && this.cursor !== null) this.toggle(this.cursor);
    else if (event.key === "Enter" && this.cursor !== null) {
      this.pickOnly(this.cursor);
      this.detail.focus({ preventScroll: true });
    } else if (command && event.key.toLowerCase() === "z") this.undoButton.click();
    else if (command && event.key.toLowerCase() === "a") {
      this.selected = new Set(this.shown.map((row) => row.id));
      this.applySelection();
      this.paint();
    } else if (event.key === "Delete" || event.key === "Backspace") this.deleteSelected();
    else if (event.key === "Escape") {
      if (this.selected.size === 0 && this.detail.hidden) this.leave();
      this.selected.clear();
      this.closeDetail();
      this.applySelection();
      this.paint();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  deleteSelected() {
    if (this.selected.size) this.act({ kind: "delete", ids: [...this.selected] });
  }

  actOn(kind, status) {
    const ids = [...this.selected].filter((id) => this.rows.get(id)?.status === status);
    if (ids.length) this.act({ kind, ids });
  }

  askToClear() {
    const { entries, size } = this.totals;
    const counted = countText(entries, "entry", "entries");
    const clear = { text: `Delete all ${counted}`, title: "Delete everything", message: { kind: "clear" } };
    this.ask([`Delete all ${counted} (${sizeText(size)})?`], [clear], () => this.clearButton);
  }

  // Asks only where some of them are out of sight: in another notebook's entries, or left out by the search.
  deleteErrors() {
    const { failed } = this.totals;
    const unseen = failed - this.shown.filter(({ status }) => status === "failed").length;
    const message = { kind: "delete-errors" };
    if (unseen <= 0) return this.act(message);
    const counted = countText(failed, "kept error", "kept errors");
    const are = unseen === 1 ? "is" : "are";
    const told = failed === unseen ? "None of them is shown here." : `${unseen.toLocaleString("en-US")} of them ${are} not shown here.`;
    const all = { text: `Delete all ${counted}`, title: "Those steps run again when they are next asked", message };
    this.ask([`Delete all ${counted} of this cache?`, told], [all], () => this.errorsButton);
  }

  askToEmpty() {
    const { trashEntries, trash, place } = this.totals;
    const [it, them] = trashEntries === 1 ? ["It", "it"] : ["They", "them"];
    const shared = URL_BEGINS.test(place); // what everybody deleted lies there
    const cannot = shared ? `Nobody who uses this cache can bring ${them} back.` : `${it} cannot be brought back.`;
    const text = `Delete ${countText(trashEntries, "entry", "entries")} in the trash (${sizeText(trash)}) for good?`;
    const empty = { text: "Empty the trash", title: cannot, message: { kind: "empty-trash", count: trashEntries } };
    this.ask([text, cannot], [empty], () => this.emptyButton, "");
  }

  // Something was made from what is to be deleted.
  receiveQuestion({ view, action, text, told, only, all, ids, later }) {
    if (view !== this.id) return;
    clearTimeout(this.slowTimer);
    this.say(this.hint);
    const title = "Delete the later steps, too: they run again with what they are made from";
    const back = this.askedFrom;
    this.ask([text, told], [
      { text: only, title: "Keep the later steps as they are", message: { kind: action, ids, asked: true } },
      { text: all, title, message: { kind: "delete", ids: [...ids, ...later], asked: true } },
    ], () => back);
  }

  ask(texts, answers, back, wayBack = "Undo for 24 h") {
    this.questionText.replaceChildren(...texts.map((text) => element("span", "", text)));
    const buttons = answers.map(({ text, title, message }) =>
      button(text, `${text}: ${title}`, () => {
        this.closeQuestion();
        this.act(message);
      }, "nbstep-danger"),
    );
    const cancel = button("Cancel", "Keep everything", () => this.closeQuestion());
    this.answers.replaceChildren(...buttons, cancel, element("span", "nbstep-undo-for", wayBack));
    this.questionBack = back;
    this.question.hidden = false;
    cancel.focus();
  }

  closeQuestion() {
    this.question.hidden = true;
    this.takeFocus(); // where what asked has gone meanwhile
    this.questionBack()?.focus({ preventScroll: true });
  }

  // A note tells of what was just done, so it goes when something else happens: with what the user does next, or when the
  // list changes again. What Undo takes back stays told until another thing is done, or those very entries change.

  onGesture() {
    if (this.noted && !this.noted.lasting && !this.tellsOfUndo()) this.say(this.hint);
  }

  outdate(ids) {
    for (const id of ids) this.touched?.add(id);
    const { noted } = this;
    if (!noted || noted.lasting || ids.length === 0) return;
    if (this.tellsOfUndo() && !ids.some((id) => noted.touched.has(id))) return;
    const stays = NOTE_STAYS_MS - (performance.now() - noted.at);
    setTimeout(() => this.noted === noted && this.say(this.hint), Math.max(0, stays));
  }

  tellsOfUndo() {
    return Boolean(this.noted.undoable && this.noted.touched && this.totals?.trashEntries);
  }

  say(text, failed = false) {
    this.noted = null;
    this.note.textContent = text;
    this.note.classList.toggle("nbstep-failed", Boolean(failed));
  }

  // One entry in full

  askDetail(id) {
    this.detailId = id;
    clearTimeout(this.detailTimer);
    const row = this.rows.get(id);
    if (!row) return this.closeDetail(); // a group
    this.showDetail({
      id, label: row.label, status: row.status, headline: whatText(row), facts: [], preview: "", traceback: "", source: "",
      inputs: [], differences: [],
    });
    this.detailTimer = setTimeout(() => this.send({ kind: "detail", id }), 60); // not for every row an arrow passes
  }

  showDetail(detail) {
    if (detail.id !== this.detailId) return;
    const top = element("div", "nbstep-detail-top");
    const title = element("span", "nbstep-detail-key", detail.label);
    const status = element("span", "nbstep-detail-status", `${MARKS[detail.status]} ${detail.status}`);
    status.dataset.status = detail.status;
    const buttons = element("div", "nbstep-detail-buttons");
    top.append(title, status, buttons);
    this.detailActions = [];
    if (detail.status === "old value") {
      const ids = [detail.id];
      this.detailActions.push(
        button("Re-run", RERUN_TITLE, () => this.act({ kind: "rerun", ids }), "nbstep-small"),
        button("Accept", ACCEPT_TITLE, () => this.act({ kind: "accept", ids }), "nbstep-small"),
      );
      for (const acting of this.detailActions) this.enable(acting, true);
    }
    buttons.append(...this.detailActions);
    buttons.append(button("Close", "Close the details (Escape)", () => this.closeDetail(), "nbstep-quiet"));
    const headline = element("div", "nbstep-headline", detail.headline);
    headline.dataset.status = detail.status;
    const facts = element("dl", "nbstep-facts");
    this.ticking = [];
    for (const [name, text] of detail.facts) {
      const told = element("dd", "", text);
      const term = element("dt", "", name);
      facts.append(term, told);
      for (const [aged, before, moment, after] of detail.ages ?? []) {
        if (aged === name) this.ticking.push([told, () => `${before}${ageText(Math.max(0, this.now() - moment))}${after}`]);
      }
      if (name === "expires") this.ticking.push([told, () => this.tellExpiry(term, detail.id)]);
    }
    this.tickDetail();
    const parts = [top, headline];
    if (detail.facts.length) parts.push(facts);
    if (detail.inputs.length) parts.push(element("div", "nbstep-caption", "Inputs"), inputList(detail.inputs));
    for (const [title, text, isDiff] of detail.differences) {
      const name = `Source then and now: ${title}`;
      parts.push(element("div", "nbstep-caption", name), isDiff ? diffBox(name, text) : element("div", "", text));
    }
    if (PNG.test(detail.thumbnail ?? "")) parts.push(thumbnail(detail));
    for (const [name, text] of [["Value", detail.preview], ["Original traceback", detail.traceback], ["Source", detail.source]]) {
      if (!text) continue;
      parts.push(element("div", "nbstep-caption", name), textBox(name, "", text));
    }
    this.detail.setAttribute("aria-label", `Entry ${detail.label}`);
    this.refill(this.detail, parts);
    this.detail.hidden = false;
  }

  // The ages in the details go on as those in the rows do.
  tickDetail() {
    for (const [node, text] of this.ticking) {
      const now = text();
      if (now && node.textContent !== now) node.textContent = now;
    }
  }

  tellExpiry(term, id) {
    const expires = this.rows.get(id)?.expires ?? null;
    if (expires === null || expires > this.now()) return expiryText(expires, this.now());
    term.textContent = "expired";
    return ageText(this.now() - expires);
  }

  closeDetail() {
    this.ticking = [];
    if (hasFocus(this.detail)) this.takeFocus();
    this.detailId = null;
    clearTimeout(this.detailTimer);
    this.detail.hidden = true;
    this.detail.replaceChildren();
  }
}

// The saved table above the panel: all there is to see until a kernel answers, and where none ever does.
class Snapshot {
  constructor(el) {
    this.el = el;
    this.hidden = [];
    this.frames = 0;
  }

  hide() {
    let above = this.el.parentElement;
    for (let level = 0; above && level < 12 && this.hidden.length === 0; level++, above = above.parentElement) {
      const tables = [...above.querySelectorAll(".nbstep-snapshot")];
      const before = tables.filter((t) => t.compareDocumentPosition(this.el) & Node.DOCUMENT_POSITION_FOLLOWING).pop();
      if (before) this.hideNode(before.closest(".jp-OutputArea-child") ?? before);
      if (above.matches(".jp-OutputArea, .jp-Cell, .output_area")) break;
    }
    // The view is made before it is put into the page.
    if (this.hidden.length === 0 && this.frames++ < 60) this.frame = requestAnimationFrame(() => this.hide());
  }

  hideNode(node) {
    this.hidden.push([node, node.style.display]);
    node.style.display = "none";
  }

  restore() {
    cancelAnimationFrame(this.frame);
    for (const [node, display] of this.hidden) node.style.display = display;
  }
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, { snapshot: new Snapshot(el) });
    const onRestart = () => setTimeout(() => panel.sendSight()); // a moment later nothing is sent to the old kernel any more
    model.on("comm_live_update", onRestart);
    return () => {
      model.off("comm_live_update", onRestart);
      panel.close();
    };
  },
};
