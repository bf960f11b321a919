"""The entry: nothing of it is used before signature, key and digests hold (DESIGN 5, "Entry file", "Trust")."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from dataclasses import asdict, fields, replace
from typing import Any

import blake3
import cloudpickle
import pytest

from nbstep.cache import entry, serializer
from nbstep.cache.records import ErrorText, Facts, Meta, Unreadable
from nbstep.cache.trust import SigningKey
from nbstep.events import Place
from nbstep.stores.base import BytesDocument

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
META = Meta(
    key="user:1", outcome="ok", created=1000.0, size_bytes=0, type="dict", shape="1 item", preview="{'a': 1}", error=None,
    signer="", trusted=True, python=entry.PYTHON, packages={"pandas": "3.0"},
    facts=Facts(took_s=1.5, awaitable=True, ttl_s=60.0, workflow="w", place=Place("a.ipynb", 3, 7), code={"": "d1", "f": "d2"},
                source="lambda: 1", uses=("a", "b"), exact="x"),
)  # fmt: skip

loaded: list[str] = []


def poison() -> str:
    loaded.append("loaded")
    return "poison"


class Poison:
    def __reduce__(self) -> Any:
        return poison, ()


@pytest.fixture(autouse=True)
def _nothing_loaded_yet() -> None:
    loaded.clear()


def encoded(value: Any = None, meta: Meta = META, key: SigningKey = KEY, buffers: list[Any] | None = None) -> bytes:
    content = entry.Content("value", pickle.dumps(value, 5), buffers or [], by_value=False)
    return b"".join(entry.encode(meta, content, key))


def read(content: bytes, key: SigningKey = KEY, now: float = 2000.0) -> tuple[entry.Head, Any]:
    document = BytesDocument(content)
    head = entry.read_head(document, key, now)
    if not head.meta.trusted:
        raise Unreadable("untrusted", head.meta.signer)
    stream, buffers = entry.read_payload(document, head)
    return head, serializer.deserialize(stream, buffers)


def test_what_was_written_is_read_again() -> None:
    content = encoded({"a": 1})
    head, value = read(content)
    assert value == {"a": 1}
    assert head.meta == replace(META, signer=KEY.id, size_bytes=len(content))


WHOLE = Facts(
    took_s=2, awaitable=True, returned=True, ttl_s=1e300, workflow="wörk\"", place=Place("a b.ipynb", 1, 2),
    code={"": "c", "\n": "d"}, source="def f():\n\treturn '\\x00'", uses=("a", "ü"), names=("x", "y"),
    inputs={"n": "5", "\ud800": "#1"}, sources={"g": "lambda: '\u2028'"}, accepted=1795722955.25, uses_beyond=3, exact="e",
)  # fmt: skip


@pytest.mark.parametrize("facts", [Facts(took_s=1e-05), META.facts, WHOLE, Facts(float("inf"), names=())])
@pytest.mark.parametrize("error", [None, ErrorText("ValueError", "bäd\x00", "Traceback", transient=True)])
@pytest.mark.parametrize("thumbnail", ["", "iVBORw0KGgo="])
@pytest.mark.parametrize("buffers", [[], [b"x" * 70_000, b""]])
def test_a_header_is_what_json_would_write(facts: Facts, error: Any, thumbnail: str, buffers: list[bytes]) -> None:
    meta = replace(META, facts=facts, error=error, thumbnail=thumbnail, packages={"pandas": "3.0", "é": "1"})
    header = entry.read_header(BytesDocument(encoded(1, meta, buffers=buffers)))
    assert header.signed[12:].decode("ascii") == json.dumps(header.fields, separators=(",", ":"))
    assert list(header.fields) == [
        "key", "outcome", "payload", "by_value", "created", "type", "shape", "preview", "error", "python", "abi", "platform",
        "packages", "facts", "stream", "buffers", "digest", "mac", "serializer", *(["thumbnail"] if thumbnail else []), "signer",
    ]  # fmt: skip
    assert header.fields["facts"] == json.loads(json.dumps(asdict(facts)))
    assert list(header.fields["facts"]) == [field.name for field in fields(Facts)]
    assert header.fields["error"] == (None if error is None else asdict(error))
    assert entry.with_facts({"key": "k"}, facts) == {"key": "k", "facts": header.fields["facts"]}


def test_a_header_says_what_is_new_in_facts_like_those_of_the_entry_before() -> None:
    code, sources, others = {"": "c"}, {"g": "lambda: 1"}, {"names": ("x",), "source": "s", "workflow": "w"}
    facts = Facts(1.0, place=Place("a", 1, 2), code=code, sources=sources)
    many = [facts, facts, *(replace(facts, **{name: value}) for name, value in others.items()), facts]
    for one in [*many, replace(facts, place=Place("a", 1, True)), replace(facts, code={"": "d"}), facts]:
        assert read(encoded(meta=replace(META, facts=one)))[0].meta.facts == one
    assert encoded(meta=replace(META, facts=replace(facts, place=Place("a", 1, True)))) != encoded(
        meta=replace(META, facts=facts)
    )
    code[""], sources["h"] = "e", "lambda: 2"
    assert read(encoded(meta=replace(META, facts=facts)))[0].meta.facts == facts


def test_errors_and_any_key_text_survive() -> None:
    error = ErrorText("ValueError", "bäd\x00\ud800", "Traceback …", transient=True)
    meta = replace(META, key="ключ/../\x00\ud800", outcome="error", error=error)
    head, _ = read(encoded(1, meta))
    assert (head.meta.key, head.meta.error) == (meta.key, error)


def test_buffers_begin_on_pages_and_the_file_ends_with_the_last() -> None:
    buffers = [b"x" * 5000, b"", b"y" * 10]
    content = encoded(1, buffers=buffers)
    head = entry.read_head(BytesDocument(content), KEY, 0)
    assert [section.at % entry.PAGE for section in head.sections[1:]] == [0, 0, 0]
    assert content[head.sections[1].at :][:5000] == b"x" * 5000
    assert content.endswith(b"y" * 10)


def test_a_time_in_the_future_counts_as_now() -> None:
    assert read(encoded(), now=10.0)[0].meta.created == 10.0


def test_every_flipped_bit_is_noticed_before_anything_is_unpickled() -> None:
    content = encoded(Poison(), buffers=[b"b" * 70])
    assert read(content)[1] == "poison"
    loaded.clear()
    for at in range(len(content)):
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << (at % 8)
        with pytest.raises(Unreadable):
            read(bytes(spoilt))
    assert loaded == []


def test_every_truncation_and_every_addition_is_noticed() -> None:
    content = encoded(Poison(), buffers=[b"b" * 70])
    for length in range(len(content)):
        with pytest.raises(Unreadable):
            read(content[:length])
    with pytest.raises(Unreadable, match="bytes instead of"):
        read(content + b"\x00")
    assert loaded == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable"),
        (b"garbage", "unreadable"),
        (os.urandom(5000), "unreadable"),
        (pickle.dumps(Poison()), "unreadable"),
        (b"NBSTEP2\n" + b"\x00" * 100, "incompatible"),
        (b"NBSTEP1\n" + b"\xff\xff\xff\xff" + b"\x00" * 100, "unreadable"),
        (b"NBSTEP1\n" + (20).to_bytes(4, "little") + b"[" * 20 + b"\x00" * 32, "unreadable"),
    ],
)
def test_what_is_no_entry_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(content)
    assert caught.value.reason == reason
    assert caught.value.detail
    assert loaded == []


def test_an_entry_of_another_signer_is_readable_as_text_and_not_trusted() -> None:
    head = entry.read_head(BytesDocument(encoded(Poison(), key=OTHER)), KEY, 2000.0)
    assert (head.meta.trusted, head.meta.signer, head.meta.key) == (False, OTHER.id, "user:1")
    assert loaded == []


def test_an_entry_that_claims_our_signature_is_refused() -> None:
    content = encoded(1)
    begin = content.index(b'"took_s":1.5')
    forged = content[:begin] + b'"took_s":9.5' + content[begin + 12 :]
    with pytest.raises(Unreadable, match="signature does not match"):
        read(forged)


@pytest.mark.parametrize(
    "field", ["key", "facts", "stream", "buffers", "created", "packages", "outcome", "digest", "signer"]
)
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [[-1, "x"]], 1e400, True])
def test_headers_of_strangers_may_say_anything_and_break_nothing(field: str, value: Any) -> None:
    fields = entry.read_header(BytesDocument(encoded(1))).fields
    content = entry.sign_header({**fields, field: value}, OTHER)
    try:
        head = entry.read_head(BytesDocument(content), KEY, 2000.0)
    except Unreadable:
        return
    assert head.meta.trusted is False
    assert isinstance(head.meta.key, str)


def test_a_header_beyond_the_limit_is_refused_when_written() -> None:
    with pytest.raises(entry.TooMuchText, match="metadata"):
        encoded(1, replace(META, packages={str(n): "x" * 1000 for n in range(2000)}))


def test_no_name_is_looked_up_while_an_untrusted_entry_is_read() -> None:
    names: list[Any] = []
    watching = [True]
    sys.addaudithook(lambda event, args: names.append(args) if event == "pickle.find_class" and watching[0] else None)
    try:
        for content in (
            encoded(Poison(), key=OTHER),
            encoded(Poison())[:-1],
            encoded(Poison()).replace(b"user:1", b"user:2"),
        ):
            with pytest.raises(Unreadable):
                read(content)
        assert names == []
        read(encoded(Poison()))
        assert len(names) == 1
    finally:
        watching[0] = False


def test_the_header_is_plain_json_that_names_its_algorithms() -> None:
    content = encoded(1)
    length = int.from_bytes(content[8:12], "little")
    header = json.loads(content[12 : 12 + length])
    assert content[:8] == b"NBSTEP1\n"
    assert (header["digest"], header["mac"], header["serializer"]) == ("blake3", "hmac-sha256", "cloudpickle-5")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_hashes_large_values_without_the_threads_of_its_parent() -> None:
    large = bytearray(4 << 20)
    encoded(buffers=[large])  # starts the hasher's threads in this process
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for threads it does not have
        encoded(buffers=[large])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_k8_an_entry_from_before_names_and_compiled_code_were_kept_is_read_and_says_that_they_are_not_known() -> None:
    fields = json.loads(json.dumps(dict(entry.read_header(BytesDocument(encoded({"a": 1}))).fields)))
    del fields["facts"]["names"], fields["facts"]["exact"]
    stream = cloudpickle.dumps({"a": 1}, protocol=5)
    fields["stream"] = [len(stream), blake3.blake3(stream).hexdigest()]
    head, value = read(b"".join(entry.lay_out(entry.sign_header(fields, KEY), stream, [])))
    assert (head.meta.facts.names, head.meta.facts.exact, value) == (None, "", {"a": 1})
