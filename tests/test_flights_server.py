"""The local flights API of the notebooks: real tables, real HTTP, predictable failures, honest counts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flights_api
import httpx
import pytest

SCRIPT = Path(flights_api.__file__)


@pytest.fixture(scope="module")
def tables() -> flights_api.Tables:
    return flights_api.Tables.read(flights_api.table_folder())


@pytest.fixture
def client(tables: flights_api.Tables) -> Iterator[httpx.Client]:
    with flights_api.serve(latency_s=0, tables=tables) as api, httpx.Client(base_url=api.url) as client:
        yield client


def test_every_flight_and_airline_of_2013_is_served(tables: flights_api.Tables):
    assert sum(len(lines) for lines in tables.flights.values()) == 336_776
    assert len(tables.airlines) == 16
    assert len(tables.planes) == 3_322
    assert len(tables.airports) == 1_458
    assert sum(len(rows) for rows in tables.weather.values()) == 26_115


def test_an_airline_says_how_many_flights_it_had(client: httpx.Client):
    assert client.get("/airlines/HA").json() == {
        "carrier": "HA", "name": "Hawaiian Airlines Inc.", "flights": 342, "months": list(range(1, 13)),
    }  # fmt: skip
    assert len(client.get("/airlines").json()["airlines"]) == 16


def test_the_pages_of_a_month_add_up_to_the_month(client: httpx.Client):
    first = client.get("/flights", params={"carrier": "UA", "month": 1}).json()
    assert (first["pages"], first["total"], len(first["flights"])) == (10, 4637, flights_api.PER_PAGE)
    rows = first["flights"]
    for page in range(2, first["pages"] + 1):
        rows += client.get("/flights", params={"carrier": "UA", "month": 1, "page": page}).json()["flights"]
    assert len(rows) == 4637
    assert {(row["carrier"], row["month"]) for row in rows} == {("UA", 1)}


def test_cells_are_numbers_text_or_null_and_9e_is_text(client: httpx.Client):
    flights = client.get("/flights", params={"carrier": "9E", "month": 1}).json()["flights"]
    assert {row["carrier"] for row in flights} == {"9E"}
    cancelled = [row for row in flights if row["dep_time"] is None]
    assert cancelled
    assert all(row["arr_delay"] is None for row in cancelled)
    assert isinstance(flights[0]["distance"], int)
    assert client.get("/planes/N10156").json()["speed"] is None
    assert client.get("/weather?origin=EWR&month=1").json()["weather"][0]["temp"] == 39.02


def test_a_month_without_flights_is_one_empty_page(client: httpx.Client, tables: flights_api.Tables):
    assert ("OO", 2) not in tables.flights
    answer = client.get("/flights", params={"carrier": "OO", "month": 2})
    assert answer.json() == {"carrier": "OO", "month": 2, "page": 1, "pages": 1, "total": 0, "flights": []}


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/airlines/CO", 404, "no airline 'CO' flew from New York in 2013"),
        ("/airlines/%20", 404, "no airline ' ' flew from New York in 2013"),
        ("/flights?carrier=CO&month=1", 404, "no airline 'CO' flew from New York in 2013"),
        ("/flights?carrier=UA", 400, "month must be a number from 1 to 12, not ''"),
        ("/flights?carrier=UA&month=13", 400, "month must be a number from 1 to 12, not '13'"),
        ("/flights?carrier=UA&month=1&page=0", 400, "page must be a number from 1, not '0'"),
        ("/flights?carrier=UA&month=1&page=11", 404, "no page 11: there are 10"),
        ("/planes/NOPE", 404, "no plane 'NOPE'"),
        ("/airports/XXX", 404, "no airport 'XXX'"),
        ("/weather?origin=LAX&month=1", 404, "no weather for 'LAX': origin is one of EWR, JFK, LGA"),
        ("/", 404, "no '/' here: try /airlines, /flights, /planes, /airports, /weather"),
    ],
)
def test_bad_questions_get_a_status_and_a_message(client: httpx.Client, path: str, status: int, message: str):
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (status, {"message": message})


def test_a_flaky_month_fails_once_then_works(client: httpx.Client):
    carrier, month = next((c, m) for c in ("DL", "MQ") for m in range(1, 13) if flights_api.is_flaky(c, m))
    question = {"carrier": carrier, "month": month}
    first, second = client.get("/flights", params=question), client.get("/flights", params=question)
    assert (first.status_code, first.json()) == (503, {"message": "too busy just now, try again"})
    assert second.status_code == 200


def test_a_few_months_are_flaky_and_most_are_not(tables: flights_api.Tables):
    flaky = [(c, m) for c in tables.airlines for m in range(1, 13) if flights_api.is_flaky(c, m)]
    assert 4 <= len(flaky) <= 12


def test_stats_count_every_question_but_not_themselves(client: httpx.Client):
    client.get("/airlines/UA")
    client.get("/airlines/UA")
    client.get("/flights?month=1&carrier=HA")
    client.get("/airlines/CO")
    client.get("/stats")
    assert client.get("/stats").json() == {
        "requests": 4,
        "by_path": {"/airlines/CO": 1, "/airlines/UA": 2, "/flights?carrier=HA&month=1": 1},
        "by_status": {"200": 3, "404": 1},
    }


def test_many_clients_at_once_are_all_counted(client: httpx.Client):
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: client.get("/airlines/UA").status_code, range(200)))
    assert statuses == [200] * 200
    assert client.get("/stats").json()["by_path"] == {"/airlines/UA": 200}


def test_one_connection_serves_many_requests(client: httpx.Client):
    ports = {client.get("/airlines/UA").extensions["network_stream"].get_extra_info("client_addr") for _ in range(5)}
    assert len(ports) == 1


def test_answers_take_the_latency_that_was_asked_for(tables: flights_api.Tables):
    with flights_api.serve(latency_s=0.05, tables=tables) as api, httpx.Client(base_url=api.url) as client:
        assert min(client.get("/airlines/UA").elapsed.total_seconds() for _ in range(3)) >= 0.04


def test_only_this_machine_is_answered(tables: flights_api.Tables):
    with flights_api.serve(latency_s=0, tables=tables) as api:
        assert api.url.startswith("http://127.0.0.1:")


def test_start_uses_the_api_named_by_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLIGHTS_API_URL", "http://127.0.0.1:1/")
    api = flights_api.start()
    assert api.url == "http://127.0.0.1:1"
    with pytest.raises(RuntimeError, match="runs elsewhere"):
        api.stats()


def test_start_twice_gives_the_one_api_of_this_kernel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FLIGHTS_API_URL", raising=False)
    first = flights_api.start(latency_s=0)
    try:
        assert flights_api.start() is first
        assert first.stats()["requests"] == 0
    finally:
        flights_api._started.clear()
        first.close()


def test_as_a_command_it_prints_its_address_and_serves():
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(SCRIPT), "--latency", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert httpx.get(f"{url}/airlines/UA").json()["name"] == "United Air Lines Inc."
        finally:
            server.terminate()


def test_closing_ends_the_thread(tables: flights_api.Tables):
    with flights_api.serve(latency_s=0, tables=tables):
        pass
    assert "flights-api" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}
