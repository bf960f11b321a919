// The panel's other side over HTTP: takes the messages that a kernel would, and asks the Jupyter server instead.
//
// What kernels keep meanwhile is found by asking again every few seconds; the server answers 304 while nothing changed, else
// with what did.

const EVERY_MS = 2000;
const REFUSED_EVERY_MS = 30_000;
const PAUSES_A_REQUEST = 10; // a cache that takes long to list is asked less often
const NO_ANSWER = "The Jupyter server does not answer; it is asked again.";
const NO_ADDRESS =
  "The sidebar's part in the server is not running. In a terminal: jupyter server extension enable nbstep. Then restart Jupyter.";

export class RestModel {
  // `request(address, init)` gives a Response; `tell(text)` shows what stands in the way of any table, or "".
  constructor(request, path, tell) {
    this.request = request;
    this.path = path;
    this.tell = tell;
    this.hear = () => {};
    this.rows = null; // id -> the row as JSON, once there are any
    this.tag = "";
    this.paused = false;
    this.failing = false;
    this.refused = false;
    this.turn = Promise.resolve(); // one request at a time, in the order asked
  }

  on(_, hear) {
    this.hear = hear;
  }

  off() {
    this.hear = () => {};
  }

  send(message) {
    if (message.kind === "closed") this.close();
    else if (message.kind === "seen") return; // the sidebar says by itself when it is looked at
    else this.queue(() => this.answer(message));
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  // While nobody looks, nothing is asked.
  pause() {
    this.paused = true;
    clearTimeout(this.timer);
  }

  resume() {
    this.paused = false;
    this.queue(() => this.load());
  }

  queue(work) {
    clearTimeout(this.timer);
    this.turn = this.turn.then(async () => {
      if (this.closed) return;
      const began = performance.now();
      try {
        await work();
      } catch (error) {
        this.fail(error);
      }
      this.wait(performance.now() - began);
    });
  }

  wait(tookMs) {
    clearTimeout(this.timer);
    if (this.paused || this.closed) return;
    this.timer = setTimeout(() => {
      if (document.hidden) this.wait(tookMs);
      else this.queue(() => this.load());
    }, Math.max(this.refused ? REFUSED_EVERY_MS : EVERY_MS, PAUSES_A_REQUEST * tookMs));
  }

  async answer(message) {
    if (message.kind === "ready") {
      this.rows = null;
      this.tag = "";
      await this.load();
    } else if (message.kind === "detail") {
      const response = await this.fetch(`entries/${message.id}`);
      if (response.ok) this.hear(await response.json());
      else await this.load();
    } else if (message.kind === "refresh") {
      this.tag = "";
      await this.load();
      this.hear({ kind: "note", text: "The cache was read again." });
    } else {
      const { ids, asked, count, view } = message;
      const response = await this.fetch(message.kind, { method: "POST", body: JSON.stringify({ ids, asked, count }) });
      // What is refused leaves the table as it is: it may be looked at all the same.
      const answer = response.ok ? await response.json() : { kind: "note", text: await reason(response), failed: true };
      if (answer.kind === "note") await this.load();
      this.hear({ ...answer, view });
    }
  }

  async load() {
    const headers = this.tag ? { "If-None-Match": this.tag } : {};
    const response = await this.fetch("entries", { headers });
    if (response.status !== 304) {
      if (!response.ok) throw new Refusal(await reason(response));
      const { rows, totals, gone } = await response.json();
      this.tag = response.headers.get("ETag") ?? "";
      this.take(rows, gone, { totals, now: Date.parse(response.headers.get("Date")) / 1000 || Date.now() / 1000 });
    }
    this.tell("");
    this.refused = false;
    if (this.failing) this.hear({ kind: "note", text: "The Jupyter server answers again." });
    this.failing = false;
  }

  // All rows, or with `gone` what changed since the last ones.
  take(rows, gone, state) {
    if (gone === undefined && this.rows !== null) {
      const before = this.rows;
      this.rows = new Map(rows.map((row) => [row[0], JSON.stringify(row)]));
      gone = [...before.keys()].filter((id) => !this.rows.has(id));
      rows = rows.filter((row) => before.get(row[0]) !== this.rows.get(row[0]));
    } else {
      this.rows ??= new Map();
      for (const id of gone ?? []) this.rows.delete(id);
      for (const row of rows) this.rows.set(row[0], JSON.stringify(row));
    }
    if (gone === undefined) this.hear({ kind: "rows", first: true, last: true, rows, ...state });
    else this.hear({ kind: "change", gone, rows, ...state });
  }

  // A refusal stands in the table's place; rows once shown stay while the server is away.
  fail(error) {
    if (error instanceof Refusal) {
      this.tag = "";
      this.refused = true;
      this.tell(error.message);
    } else {
      this.failing = true;
      if (this.rows === null) this.tell(NO_ANSWER);
      else this.hear({ kind: "note", text: NO_ANSWER, failed: true, lasting: true });
    }
  }

  fetch(address, init = {}) {
    const query = new URLSearchParams({ path: this.path, no_track_activity: "1" });
    return this.request(`${address}?${query}`, init);
  }
}

class Refusal extends Error {}

const SAID_BY_STATUS = {
  403: "The Jupyter server does not let you do this. If you were logged out, reload the page and log in.",
  404: NO_ADDRESS,
};

// What to tell of an answer: our own addresses say it in JSON, others' answers are told by their status.
async function reason(response) {
  const plain = `The Jupyter server answers ${response.status} ${response.statusText}`.trim();
  let message;
  try {
    ({ message } = await response.json());
  } catch {
    // no JSON: not one of our addresses
  }
  if (message && response.status !== 403 && message !== response.statusText) return message;
  return SAID_BY_STATUS[response.status] ?? plain;
}
