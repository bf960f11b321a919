"""Errors of openai, botocore and SQLAlchemy, raised by real use through `step`; tells as JSON what of them can be read.

Called by `test_failure_clients.py` in processes of its own: `python client_errors.py CACHE SERVER`.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session
import httpx2
import openai
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import nbstep

API_KEY = "plain-openai-key-5f1d"
TEAM = "blue-team-header-77"
ACCESS_KEY = "AKIAQWERTYUIOPASDFGH"
SECRET_KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCY"
SESSION_TOKEN = "session-token-value-77aa"
DATABASE_PASSWORD = "database-password-4711"
BOUND_PASSWORD = "bound-password-2233"
NOBODY = "http://127.0.0.1:9"

cache_path, SERVER = sys.argv[1:3]
calls: list[str] = []


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    password: Mapped[str]


def chat(base_url: str, timeout: float = 60) -> Any:
    with openai.OpenAI(
        base_url=base_url, api_key=API_KEY, max_retries=0, timeout=timeout, default_headers={"X-Team": TEAM}
    ) as client:
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])


def unfinished() -> None:
    completion = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    raise openai.LengthFinishReasonError(completion=openai.types.chat.ChatCompletion.model_validate(completion))


def client_of(service: str, url: str, *, known: bool = True) -> Any:
    session = botocore.session.Session()
    config = botocore.config.Config(
        retries={"max_attempts": 0}, s3={"addressing_style": "path"}, connect_timeout=20, read_timeout=20
    )
    credentials = {
        "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "aws_session_token": SESSION_TOKEN,
    } if known else {}  # fmt: skip
    return session.create_client(service, region_name="us-east-1", endpoint_url=url, config=config, **credentials)


s3, dynamodb, logs = (client_of(service, SERVER) for service in ("s3", "dynamodb", "logs"))


@contextlib.contextmanager
def database() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            Base.metadata.create_all(connection)
            yield connection
    finally:
        engine.dispose()


def execute(text: str, parameters: Any) -> Any:
    with database() as connection:
        return connection.execute(sa.text(text), parameters).one()


def flush() -> None:
    with database() as connection, Session(connection) as session:
        session.add(User(id=1, name=None, password=BOUND_PASSWORD))
        session.flush()


def connect() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLite has no use for a password
        sa.create_engine(f"sqlite:////no/such/folder/db?password={DATABASE_PASSWORD}").connect()


CASES: dict[str, Callable[[], Any]] = {
    **{f"openai {status}": lambda status=status: chat(f"{SERVER}/{status}") for status in (400, 401, 404, 422, 429, 500)},
    "openai echo": lambda: chat(f"{SERVER}/echo/401"),
    "openai time-out": lambda: chat(f"{SERVER}/slow", timeout=0.2),
    "openai connection": lambda: chat(NOBODY),
    "openai address": lambda: chat("nonsense://x"),
    "openai unfinished": unfinished,
    "s3 NoSuchKey": lambda: s3.get_object(Bucket="bucket", Key="404/NoSuchKey"),
    "s3 AccessDenied": lambda: s3.get_object(Bucket="bucket", Key="403/AccessDenied"),
    "s3 SlowDown": lambda: s3.get_object(Bucket="bucket", Key="503/SlowDown"),
    "s3 Throttling": lambda: s3.get_object(Bucket="bucket", Key="400/ThrottlingException"),
    "dynamodb": lambda: dynamodb.get_item(TableName="t", Key={"id": {"S": "ResourceNotFoundException"}}),
    "logs": lambda: logs.list_tags_log_group(logGroupName="ResourceNotFoundException"),
    "s3 echo": lambda: s3.get_object(Bucket="bucket", Key="echo/403/AccessDenied"),
    "s3 head": lambda: s3.head_object(Bucket="bucket", Key="404/NoSuchKey"),
    "s3 parameter": lambda: s3.get_object(Bucket="bucket"),
    "s3 connection": lambda: client_of("s3", NOBODY).get_object(Bucket="bucket", Key="x"),
    "s3 credentials": lambda: client_of("s3", SERVER, known=False).get_object(Bucket="bucket", Key="x"),
    "sql connect": connect,
    "sql refused": lambda: sa.create_engine(f"mysql+pymysql://ada:{DATABASE_PASSWORD}@127.0.0.1:9/db").connect(),
    "sql module": lambda: sa.create_engine(f"postgresql+none://ada:{DATABASE_PASSWORD}@host/db"),
    "sql table": lambda: execute("SELECT * FROM none WHERE name = :name", {"name": "Ada"}),
    "sql secret": lambda: execute("SELECT * FROM none WHERE password = :password", {"password": BOUND_PASSWORD}),
    "sql missing": lambda: execute("SELECT :a, :b", {"a": 1}),
    "sql row": lambda: execute("SELECT * FROM users", {}),
    "sql flush": flush,
}  # fmt: skip


def facts(error: Exception) -> dict[str, Any]:
    """What people read of such an error."""
    told: dict[str, Any] = {
        "class": [f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__],
        "text": str(error),
        "args": repr(error.args),
        "notes": [note for note in getattr(error, "__notes__", []) if "nbstep" not in note],
        "cause": repr(error.__cause__),
        "context": type(error.__context__).__name__,
        "transient": nbstep.transient(error),
        "caught": caught(error),
    }
    for name in (
        "status_code", "request_id", "message", "code", "param", "type", "body", "completion", "response", "kwargs",
        "operation_name", "orig", "statement", "params", "detail", "hide_parameters", "connection_invalidated", "ismulti",
    ):  # fmt: skip
        told[name] = repr(getattr(error, name, "none"))
    if isinstance(error, openai.APIError):
        told["request"] = (error.request.method, str(error.request.url), type(error.request) is httpx2.Request)
    if isinstance(error, openai.APIStatusError):
        response = error.response
        told["answer"] = (response.status_code, response.json(), response.headers["x-request-id"], response.url.path)
    if isinstance(error, sa.exc.DBAPIError):
        told["driver"] = (type(error.orig).__module__, type(error.orig).__name__, error.orig.args, error.code)
    try:
        told["pickled"] = type(pickle.loads(pickle.dumps(error))).__name__
    except TypeError:
        told["pickled"] = "not"  # openai's errors do not survive pickle, fresh or kept
    return told


def caught(error: Exception) -> str:
    """Which `except` catches it; two services have a ResourceNotFoundException."""
    try:
        raise error
    except s3.exceptions.NoSuchKey:
        return "s3: no such key"
    except dynamodb.exceptions.ResourceNotFoundException:
        return "dynamodb: not found"
    except logs.exceptions.ResourceNotFoundException:
        return "logs: not found"
    except Exception as other:
        return type(other).__name__


def ask(name: str) -> dict[str, Any]:
    """Runs one case as a keyed step of the workflow, and reads what it raised."""

    def thunk() -> Any:
        calls.append(name)
        try:
            return CASES[name]()
        except Exception as error:
            error.add_note("a note of the user")
            raise

    return facts(workflow(lambda step: step(thunk, key=name, error_ttl=None)).error)


if __name__ == "__main__":
    workflow = nbstep.create_workflow(cache=nbstep.Cache(cache_path))
    asked = [{name: ask(name) for name in CASES} for _ in range(2)]
    sys.stdout.write(json.dumps({"asked": asked, "calls": calls}))
