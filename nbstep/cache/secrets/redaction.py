"""Texts without secrets: the forms in which they stand in messages, tracebacks, source lines and URLs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from nbstep.cache.secrets.suspicion import (
    ANY_NAME,
    HARMLESS_HEADERS,
    NAME_HINTS,
    UNMISTAKABLE_HEADERS,
    is_basic_pair,
    is_expression,
    is_sure_name,
    is_word,
    looks_random,
    looks_secret,
)
from nbstep.cache.secrets.tokens import TOKEN_HINTS, TOKENS
from nbstep.words import shown

REDACTED: Final = "<redacted>"
_SHORT_CHARS: Final = 32  # in shorter texts a look at each place takes less than one for each hint

_BEGIN: Final = r"(?:(?<![\w-])|(?<=\\[nrt]))"  # in the `repr` of a text a line begins after a written-out \n
_STRING: Final = (
    r"""(?P<quote>\\*['"])(?P<string>(?:(?!(?P=quote))(?:\\.|[^\\\n]))*)(?P<closing>(?P=quote)|(?=\n)|\Z)"""
)
_PARAMETERS: Final = r'[\w-]+=(?:"[^"]*"|[^\s,"]*)(?:\s*,\s*[\w-]+=(?:"[^"]*"|[^\s,"]*))*'
_SCHEME: Final = re.compile(
    r"(?:Basic|Bearer|Digest|Negotiate|NTLM|Token|OAuth|Hawk|ApiKey|SharedKey|Signature|AWS4-HMAC-SHA256)\s+",
    re.IGNORECASE,
)
_CREDENTIALS: Final = re.compile(rf"{_PARAMETERS}|[^\s,;'\")\]}}\\<]+")
_LITERAL_NAME: Final = r"\b([\w.]{0,40}(?:headers|hdrs|cookies|auth))"
# A literal headers={…}, cookies={…} or auth=(…) in a line of source, or in a JSON text that tells what was sent.
_LITERAL: Final = (
    _LITERAL_NAME
    + r"""((?:\\*['"])?\s*[=:]\s*|\.update\()"""
    + r"""(\{(?:[^{}]|\{[^{}]*\}){0,4000}\}|\((?:[^()]|\([^()]*\)){0,4000}\)|\[[^\[\]]{0,4000}\])"""
)
_PAIR: Final = re.compile(
    r"""(?P<head>(?P<open>\\*['"])(?P<name>[\w-]{1,80})(?P=open)\s*[:,]\s*[bBrRfFuU]{0,2})""" + _STRING
)
_PAIR_OF_VARIABLE: Final = re.compile(
    r"""(?P<open>['"])(?P<name>[\w-]{1,80})(?P=open)\s*[:,]\s*(?P<variable>[A-Za-z_]\w*(?:\.\w+)*)\s*[,})\]]"""
)
_HEADER_NAMES: Final = tuple(UNMISTAKABLE_HEADERS)
_LINE_NAMES: Final = ("user-agent", "accept-encoding", "x-forwarded-for", "if-none-match")
_HEADER_LINE_REST: Final = r"[^\r\n\\]{0,4000}(?:\r?\n|(?:\\r)?\\n|\Z|(?=['\"]))"
_HEADER_LINE: Final = r"[\w-]{2,60}:" + _HEADER_LINE_REST
_ANY_STRING: Final = re.compile(r"(?P<head>)" + _STRING)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One form: texts without any of the hints do not have it."""

    pattern: str
    replacement: str | Callable[[re.Match[str]], str]
    hints: tuple[str, ...]
    flags: int = re.IGNORECASE


def redact_text(text: str) -> str:
    """A text without what looks like a secret: userinfo and secret parameters of URLs, tokens, passwords, literal headers.

    >>> redact_text("GET https://ada:hunter2@api.x.com/v1?api_key=abc&page=2 failed")
    'GET https://<redacted>@api.x.com/v1?api_key=<redacted>&page=2 failed'
    >>> print(redact_text('httpx.get(url, headers={"X-Team": "blue"})'))
    httpx.get(url, headers={"X-Team": "<redacted>"})
    >>> redact_text("Unexpected token: hello")
    'Unexpected token: hello'
    """
    if is_harmless(text):  # as of most keys, of which a panel shows a hundred thousand
        return text
    lowered = text.lower()
    for hints, pattern, replacement in _compiled_rules():
        for hint in hints:  # not any(): a generator takes most of the time here
            if hint in lowered:
                text = pattern.sub(replacement, text)
                break
    return text


def is_harmless(text: str) -> bool:
    """Whether no rule can find anything in a text.

    >>> is_harmless("{'n': 5}"), is_harmless("{'token': 5}")
    (True, False)
    """
    lowered = text.lower()
    if len(lowered) < _SHORT_CHARS:
        return _any_hint().search(lowered) is None
    return not any(map(lowered.__contains__, _all_hints()))


def redacted_repr(error: object) -> str:
    """An error as an output or a line of a log shows it: those are saved, and sent around."""
    return redact_text(repr(error))


def key_text(key: str) -> str:
    r"""A key as it may be shown, and saved with a notebook: on one line, printable, without secrets.

    >>> key_text("user:1"), key_text("GET https://ada:hunter2@api.x.com/v1\n")
    ('user:1', 'GET https://<redacted>@api.x.com/v1\\n')
    """
    return shown(redact_text(key))


def literal_headers(source: str) -> Iterator[tuple[str, str, bool]]:
    """Headers that stand written out in source text: name, value, and whether the value is a variable's name."""
    if "headers" not in source.lower():
        return
    for literal in re.finditer(_LITERAL, source, re.IGNORECASE):
        if "headers" in literal[1].lower():
            yield from ((pair["name"], pair["string"], False) for pair in _PAIR.finditer(literal[3]))
            yield from ((pair["name"], pair["variable"], True) for pair in _PAIR_OF_VARIABLE.finditer(literal[3]))


@functools.cache
def _compiled_rules() -> tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]:
    """Compiled at first use: an import must stay cheap."""
    return tuple((rule.hints, re.compile(rule.pattern, rule.flags), rule.replacement) for rule in _RULES)


@functools.cache
def _all_hints() -> tuple[str, ...]:
    """Every hint but those that hold another one."""
    hints = {hint for rule in _RULES for hint in rule.hints}
    return tuple(hint for hint in sorted(hints) if not any(other in hint for other in hints - {hint}))


@functools.cache
def _any_hint() -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, _all_hints())))


def _literal(match: re.Match[str]) -> str:
    name, between, literal = match.groups()
    pairs = "auth" not in name.lower() or literal.startswith("{")
    return name + between + (_PAIR if pairs else _ANY_STRING).sub(_emptied, literal)


def _told_headers(match: re.Match[str]) -> str:
    """`{"User-Agent": …}` and lines of headers: a server or a log tells what was sent."""

    def told(pair: re.Match[str]) -> str:
        return pair[0] if pair["name"].lower() in HARMLESS_HEADERS else _emptied(pair)

    return (_PAIR if match[0].startswith("{") else _LINE).sub(told, match[0])


def _emptied(match: re.Match[str]) -> str:
    return f"{match['head']}{match['quote']}{REDACTED}{match['closing']}" if match["string"] else match[0]


def _header_line(match: re.Match[str]) -> str:
    """`Authorization: …` and `Cookie: …`, to the end of the line or of the quotes they stand in."""
    head, opening, value = match["head"], match["open"], match["value"]
    closing = re.search(rf"(?<!\\){opening}", value) if opening else None
    end = len(value) if closing is None else closing.start()
    if "cookie" in head.lower():
        redacted = REDACTED if re.match(r"[^\s=;,'\"<]+=", value[:end]) else value[:end]
    else:
        redacted = _without_credentials(value[:end])
    return head + redacted + value[end:]


def _without_credentials(value: str) -> str:
    scheme = _SCHEME.match(value)
    begin = 0 if scheme is None else scheme.end()
    found = _CREDENTIALS.match(value, begin)
    if found is None or is_word(found[0]):
        return value
    alone = not value[found.end() :].strip(" '\")]},.")
    secret = alone or "=" in found[0] or looks_secret(found[0])
    return value[:begin] + REDACTED + value[found.end() :] if secret else value


def _scheme(match: re.Match[str]) -> str:
    scheme, credentials = match.groups()
    basic = scheme.lower().startswith("basic")
    secret = is_basic_pair(credentials) or looks_random(credentials) if basic else looks_secret(credentials)
    return scheme + REDACTED if secret else match[0]


def _assigned_string(match: re.Match[str]) -> str:
    """`name='value'`, `'name': 'value'`."""
    name, value = match["name"], match["string"]
    assigned, quoted_name = "=" in match["between"], match["end"] is not None
    secret = looks_secret(value) or quoted_name or (is_sure_name(name) and (assigned or " " not in value))
    return match[0] if is_word(value) or not secret else _emptied(match)


def _assigned(match: re.Match[str]) -> str:
    """`name=value`, `name: value`."""
    value = match["value"].rstrip(")]}.!?")
    secret = (
        not is_word(value) and not is_expression(match["value"]) and (looks_secret(value) or _is_sure(match, value))
    )
    return match["head"] + REDACTED + match["value"][len(value) :] if secret else match[0]


def _is_sure(match: re.Match[str], value: str) -> bool:
    """Whether it is a secret for its name and its place alone: "password: must be …" is a sentence."""
    name = match["name"]
    if not is_sure_name(name) or len(value) < 3 or value[0] in "[{(" or value.lower() == name.lower():
        return False
    if "=" in match["between"] or "-" in name or match["end"] is not None:
        return True
    before = match.string[: match.start()].rpartition("\n")[2]
    after = match.string[match.end() :].partition("\n")[0]
    return "\n" in match.string and not before.strip(" -") and not after.strip()


def _tagged(match: re.Match[str]) -> str:
    """`<name>value</name>`, or what is left of it where a text was cut; a template's placeholder stays."""
    value = match["value"]
    says_nothing = is_word(value) or re.fullmatch(r"\{[^{}]*\}", value)
    sentence = match.end() == len(match.string) and (match["head"][-1].isspace() or " " in value)
    return match[0] if says_nothing or sentence else match["head"] + REDACTED


def _beside_its_name(match: re.Match[str]) -> str:
    """`name="password" value="…"`."""
    return match[0] if is_word(match["string"]) else _emptied(match)


def _pair(match: re.Match[str]) -> str:
    """`('name', 'value')`: columns of a table may have such names too."""
    return _emptied(match) if "-" in match["name"] or looks_secret(match["string"]) else match[0]


def _random(match: re.Match[str]) -> str:
    return match[1] + REDACTED if looks_random(match[2]) else match[0]


_LINE: Final = re.compile(r"(?P<head>(?P<name>[\w-]{2,60}):[ \t]*)(?P<quote>)(?P<string>[^\r\n\\'\"]+)(?P<closing>)")
_CONTENT: Final = r"(?P<value>[^\s<][^<]{0,4000}?)"  # of a tag
_NAMES_IT: Final = rf"\b(?:name|key|id)\s*=\s*(?P<open>\\*['\"]|&quot;)(?P<name>{ANY_NAME})(?P=open)"
_DATABASES: Final = (
    r"(?:postgres(?:ql)?|redshift|cockroachdb|mysql|mariadb|mssql|oracle|mongodb|rediss?|amqps?|clickhouse|snowflake"
    r"|trino|s?ftps?)"
)
_FLAG: Final = r"""(?:-H|--header)(?:\\*['"])?[\s=,]+"""

_RULES: Final = (
    _Rule(_LITERAL, _literal, ("headers", "hdrs", "cookies", "auth")),
    _Rule(
        rf"""\{{[^{{}}]*['"](?:{"|".join(_HEADER_NAMES)})\\*['"]\s*:[^{{}}]*(?:\}}|\Z)""", _told_headers, _HEADER_NAMES
    ),
    _Rule(
        rf"(?:^|(?<=\\n)|(?<=['\"]))(?:{_HEADER_LINE}){{0,100}}(?:{'|'.join(_LINE_NAMES)}):(?:{_HEADER_LINE_REST})(?:{_HEADER_LINE}){{0,100}}",
        _told_headers,
        _LINE_NAMES,
        re.I | re.M,
    ),
    # headers["X-Team"] = "…"
    _Rule(
        r"""(?P<head>headers\[\s*(?P<open>['"])[\w-]{1,80}(?P=open)\s*\]\s*=\s*[bBrRfFuU]{0,2})""" + _STRING,
        _emptied,
        ("headers[",),
    ),
    _Rule(
        r"""(?P<head>header\(\s*(?P<open>['"])[\w-]{1,80}(?P=open)\s*,\s*[bBrRfFuU]{0,2})""" + _STRING,
        _emptied,
        ("header(",),
    ),
    # postgresql://user:pass/word@host: what should have been quoted there, as the error may be about
    _Rule(rf"\b({_DATABASES}(?:\+[\w.]+)?://)[^\s:/@'\"<>]*:[^\s'\"<>]{{1,512}}@", rf"\1{REDACTED}@", ("://",)),
    # scheme://user:password@host and scheme://token@host
    _Rule(r"\b([a-z][a-z0-9+.-]{1,20}://)(?!git@)[^\s/?#'\"<>]{1,512}@", rf"\1{REDACTED}@", ("://",)),
    # //user:password@host, as where a scheme was cut off
    _Rule(r"(?<![\w:/])(//)[^\s/?#:@'\"<>]{1,80}:[^\s/?#@'\"<>]{1,400}@(?=[\w\[])", rf"\1{REDACTED}@", ("//",)),
    # ?api_key=…&token=…
    _Rule(rf"([?&#;]{ANY_NAME}=)(?!{REDACTED})[^\s&#'\"<>;]+", rf"\1{REDACTED}", NAME_HINTS),
    _Rule(rf"((?:%3F|%26){ANY_NAME}%3D)[^\s%&#'\"<>;]+", rf"\1{REDACTED}", ("%3d",)),
    _Rule(
        r"([?&](?:amp;)?(?:sig|signature|assertion|x-(?:amz|goog)-(?:signature|credential|security-token))=)[^\s&#'\"<>;]+",
        rf"\1{REDACTED}",
        ("sig", "assertion=", "x-amz-", "x-goog-"),
    ),
    _Rule(r"([?&](?:amp;)?(?:key|code|auth)=)([^\s&#'\"<>;]+)", _random, ("key=", "code=", "auth=")),
    # curl -H 'X-Team: …', -u user:password, --password …
    _Rule(
        rf"""(?P<head>{_FLAG}(?P<quote>\\*['"])[\w-]{{1,80}}:\s*)(?P<string>(?:(?!(?P=quote))[^\n])*)(?P<closing>(?P=quote))""",
        lambda match: f"{match['head']}{REDACTED}{match['closing']}",
        ("-h", "--header"),
    ),
    _Rule(r"""((?<!\S)(?:-u|--user)[\s=]+['"]?)[^\s'":]+:[^\s'"]+""", rf"\1{REDACTED}", (" -u", "--user")),
    _Rule(r"(\bmysql\w*\b[^\n'\"]{0,200}?\s-p)[^\s'\"]+", rf"\1{REDACTED}", ("mysql",), 0),
    _Rule(rf"(--{ANY_NAME}\s+)(?![-'\"<])\S+", rf"\1{REDACTED}", ("--",)),
    _Rule(rf"(?P<head>(?P<open>['\"])--?{ANY_NAME}(?P=open)\s*,\s*){_STRING}", _emptied, ("'-", '"-')),
    # Authorization: …; Cookie: …
    _Rule(
        rf"(?P<head>(?P<open>['\"]?){_BEGIN}(?:(?:proxy-)?authorization|(?:set-)?cookie2?)\s*[:=]\s*)"
        r"(?!\s)(?P<value>(?:(?!\\[rn])[^\r\n])+)",
        _header_line,
        ("authorization", "cookie"),
    ),
    _Rule(r"\b((?:Bearer|Basic|Negotiate)\s+)([A-Za-z0-9+/=._~-]{6,})", _scheme, ("bearer", "basic", "negotiate")),
    _Rule(
        rf"\b((?:Digest|Hawk|OAuth|AWS4-HMAC-SHA256)\s+){_PARAMETERS}",
        rf"\1{REDACTED}",
        ("digest", "hawk", "oauth", "aws4"),
    ),
    # 'x-api-key': "…", password='…', {\"password\": \"…\"}
    _Rule(
        rf"(?P<head>{_BEGIN}(?P<name>{ANY_NAME})(?P<end>\\*['\"])?(?P<between>\s*[:=]\s*)[bBrRfFuU]{{0,2}}){_STRING}",
        _assigned_string,
        NAME_HINTS,
    ),
    # password=…, X-Api-Key: …
    _Rule(
        rf"(?P<head>{_BEGIN}(?P<name>{ANY_NAME})(?P<end>\\*['\"])?(?P<between>\s*[:=]\s*))(?P<value>(?![\s'\"<\\])[^\s'\",;&]{{3,}})",
        _assigned,
        NAME_HINTS,
    ),
    # <x-api-key>…</x-api-key>, <ns:Password Type="…"><![CDATA[…]]></ns:Password>, and what HTML made of them
    _Rule(
        rf"(?P<head>(?:<|&lt;)(?:[\w.-]{{1,40}}:)?(?P<name>{ANY_NAME})(?:\s[^<>]{{0,400}}?)?(?:>|&gt;)(?:\s|\\[nrt])*(?:<!\[CDATA\[)?)"
        r"(?P<value>[^\s<][^<]{0,4000}?)(?=(?:\s|\\[nrt])*(?:\]\]>)?(?:\s|\\[nrt])*(?:(?:<|&lt;)/(?:[\w.-]{1,40}:)?(?P=name)|\Z))",
        _tagged,
        NAME_HINTS,
    ),
    # <header name="X-Api-Key">…</header>
    _Rule(
        rf"(?P<head>(?:<|&lt;)[\w:.-]{{1,40}}\s[^<>]{{0,120}}?{_NAMES_IT}[^<>]{{0,120}}?(?<!/)(?:>|&gt;)(?:\s|\\[nrt])*(?:<!\[CDATA\[)?)"
        rf"{_CONTENT}(?=(?:\s|\\[nrt])*(?:\]\]>)?(?:\s|\\[nrt])*(?:<|&lt;)/|\Z)",
        _tagged,
        ("name=", "key=", "id="),
    ),
    # <add key="ApiKey" value="…"/>, {"key": "password", "value": "…"}
    _Rule(rf"(?P<head>{_NAMES_IT}[^<>]{{0,120}}?\svalue\s*=\s*){_STRING}", _beside_its_name, ("value=",)),
    _Rule(rf"(?P<head>\bvalue\s*=\s*){_STRING}(?=[^<>]{{0,120}}?\s{_NAMES_IT})", _beside_its_name, ("value=",)),
    _Rule(
        rf"(?P<head>(?P<mark>\\*['\"])(?:name|key|header)(?P=mark)\s*:\s*(?P=mark)(?P<name>{ANY_NAME})(?P=mark)\s*,\s*(?P=mark)value(?P=mark)\s*:\s*)"
        + _STRING,
        _beside_its_name,
        ("'value", '"value'),
    ),
    # (b"x-auth-token", b"…")
    _Rule(
        rf"(?P<head>[(\[]\s*[bB]?(?P<open>['\"])(?P<name>{ANY_NAME})(?P=open)\s*,\s*[bB]?){_STRING}(?=\s*[)\]])",
        _pair,
        NAME_HINTS,
    ),
    _Rule(rf"\b(?:{'|'.join(TOKENS)})", REDACTED, TOKEN_HINTS, 0),
    _Rule(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        REDACTED,
        ("private key",),
        re.S,
    ),
)
