"""Events: who is told, and that a listener never breaks a step."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from nbstep import create_workflow
from nbstep.events import CacheChanged, Event, Finding, emit, listen
from nbstep.testing import RecordingListener

CHANGED = CacheChanged("memory:", "kept", ("a",))


def _broken(event: Event) -> None:
    raise ZeroDivisionError("listener")


def test_listeners_are_told_in_order_then_those_of_the_process() -> None:
    told: list[tuple[str, Event]] = []
    stop = listen(lambda event: told.append(("process", event)))
    try:
        emit(
            CHANGED,
            listeners=[lambda event: told.append(("first", event)), lambda event: told.append(("second", event))],
        )
    finally:
        stop()
    assert told == [("first", CHANGED), ("second", CHANGED), ("process", CHANGED)]


def test_each_event_is_told_to_all_before_the_next_one() -> None:
    told: list[tuple[str, Event]] = []
    later = CacheChanged("memory:", "deleted", ("a",))
    stop = listen(lambda event: told.append(("process", event)))
    try:
        emit(CHANGED, later, listeners=[_broken, lambda event: told.append(("run", event))])
    finally:
        stop()
    assert told == [("run", CHANGED), ("process", CHANGED), ("run", later), ("process", later)]


def test_a_stopped_listener_hears_no_more() -> None:
    told: list[Event] = []
    stop = listen(told.append)
    stop()
    stop()
    emit(CHANGED)
    assert told == []


def test_a_failing_listener_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    emit(CHANGED, listeners=[_broken, told.append])
    assert told == [CHANGED]
    assert [(r.name, r.levelno, r.getMessage()) for r in caplog.records] == [
        ("nbstep", logging.ERROR, "a listener failed on CacheChanged")
    ]
    assert caplog.records[0].exc_info is not None


def test_c3_a_finding_without_a_run_goes_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    emit(Finding(None, "k", "untrusted", "signed by another key"))
    emit(Finding("run", "k", "untrusted", "told by its run"))
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.WARNING, "signed by another key")]


def test_events_are_frozen() -> None:
    with pytest.raises(AttributeError):
        CHANGED.cache = "other"  # type: ignore[misc]


def test_c3_one_reason_why_results_were_not_kept_is_one_line_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    told = RecordingListener()
    create_workflow(cache={}, on_event=told)(
        lambda step: step.map(lambda n: threading.Lock() if n % 2 else (m for m in range(n)), range(40), key="n:{}")
    ).unwrap()
    *lines, in_all = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert all("was not kept: " in line for line in lines)
    assert in_all.startswith("In all, 40 results were not kept: ")
    assert len({found.key for found in told.of(Finding)}) == 40, "a list has a line for each"


def test_c3_where_each_has_a_reason_of_its_own_there_is_no_count(caplog: pytest.LogCaptureFixture) -> None:
    values: dict[str, Any] = {"lock": threading.Lock(), "generator": (n for n in range(3))}
    create_workflow(cache={})(
        lambda step: [step(lambda value=value: value, key=key) for key, value in values.items()]
    ).unwrap()
    assert [record.message.partition(" ")[0] for record in caplog.records] == ["lock", "generator"]


def test_c3_no_key_that_could_not_be_kept_is_left_out_of_lines_and_count(caplog: pytest.LogCaptureFixture) -> None:
    def each_time_another(n: int) -> Any:
        return type(f"Odd{n}", (), {"__reduce__": lambda _: 1 / 0})()

    def body(step: Any) -> None:
        numbers = iter(range(3))
        for _ in range(3):
            step(lambda: each_time_another(next(numbers)), key="model", refresh=True, on_drift="ignore")
        for n in range(3):
            step(threading.Lock, key=f"lock:{n}")

    create_workflow(cache={})(body)
    written = " ".join(record.message for record in caplog.records)
    assert all(key in written for key in ("model", "lock:0", "lock:1", "lock:2"))
