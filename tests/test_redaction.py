"""What looks like a secret goes out of a text, and everything else stays in it (E4, T10): a corpus for each side."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nbstep.cache.secrets.redaction import REDACTED, _all_hints, is_harmless, redact_text
from nbstep.cache.secrets.suspicion import is_secret_name

SECRETS = [
    # text, and what must not be left of it
    ("postgres://ada:s3cr3t@db.x.com:5432/sales", "s3cr3t"),
    ("could not connect: postgresql+psycopg://ada:p@ss-w0rd@db/x timed out", "w0rd"),
    ("could not connect to //ada:letmein@db.x.com:5432/sales", "letmein"),
    ("proxy=//ada:letmein@[::1]:8080", "letmein"),
    ("'//ada:letmein@proxy' refused", "letmein"),
    ("redis://:letmein@cache:6379/0", "letmein"),
    ("mongodb+srv://root:Tr0ub4dor@cluster0.mongodb.net/?retryWrites=true", "Tr0ub4dor"),
    ("amqp://guest:guest-pw@mq//", "guest-pw"),
    ("https://ghp_0123456789abcdefghijABCDEFGHIJ012345@github.com/x/y.git", "ghp_"),
    ("Server=tcp:x.database.windows.net;User ID=sa;Password=Swordfish!;Encrypt=True;", "Swordfish"),
    ("DRIVER={ODBC Driver 18};SERVER=db;UID=sa;PWD=letmein;", "letmein"),
    ("host=db user=ada password=letmein dbname=sales", "letmein"),
    ("PGPASSWORD=letmein psql -h db", "letmein"),
    ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey=Zm9vYmFyYmF6cXV4MTIzNA==;EndpointSuffix=y", "Zm9v"),
    ("Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=c2VjcmV0LWtleS0x", "c2Vj"),
    ("https://x.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sp=r&sig=aB3dE%2Fx9Qw%3D", "aB3dE"),
    ("https://x.s3.amazonaws.com/k?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&X-Amz-Signature=fe5f80", "fe5f80"),
    ("aws_access_key_id=AKIAIOSFODNN7EXAMPLE", "AKIA"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalr"),
    ("InvalidAccessKeyId: ASIAIOSFODNN7EXAMPLE does not exist", "ASIA"),
    ("Incorrect API key provided: sk-proj-Ab3dEf6hIj9lMn2pQr5t", "Ab3dEf"),
    ("openai: sk-Ab3dEf6hIj9lMn2pQr5tUv8x", "Ab3dEf"),
    ("stripe key sk_live_4eC39HqLyjWDarjtT1zdp7dc is revoked", "4eC39"),
    ("token ghp_0123456789abcdefghijABCDEFGHIJ012345 expired", "ghp_"),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz", "11ABC"),
    ("glpat-Ab3dEf6hIj9lMn2pQr5t", "glpat-A"),
    ("hf_AbCdEfGhIjKlMnOpQrStUvWx12", "hf_A"),
    ("xoxb-1234567890-abcdefghij", "xoxb"),
    ("AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6q", "AIza"),
    ("SG.Ab3dEf6hIj9lMn2pQr5tUv.Ab3dEf6hIj9lMn2pQr5tUvWx", "SG.A"),
    ("dapi0123456789abcdef0123456789abcdef", "dapi0"),
    ("npm_Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j", "npm_A"),
    ("pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAwLTAwMDAtMDAwMC0wMDAw", "AgEI"),
    ("<sent><x-api-key>hello</x-api-key></sent>", "hello"),
    ("<wsse:Password Type='Text'>\n  letmein\n</wsse:Password>", "letmein"),
    ("<Token><![CDATA[let me in]]></Token>", "let me in"),
    ("&lt;x-api-key&gt;hello&lt;/x-api-key&gt;", "hello"),
    (r"b'<password>\n hello\n</password>'", "hello"),
    ("<r><SecretAccessKey>letmein</SecretAccessKey></r>", "letmein"),
    ("<r><password>cut-off-her", "cut-off"),
    ("Authorization: Bearer abcdef.ghijk1", "ghijk1"),
    ("bearer 0123456789abcdef0123 was refused", "0123456789"),
    ("Authorization: Basic abc", "abc"),
    ("Authorization: Basic YWRhOmh1bnRlcg==", "YWRh"),
    ("sent Basic YWRhOmh1bnRlcg== to x", "YWRh"),
    ('Authorization: Digest username="ada", realm="r", nonce="n0nce", uri="/", response="6629fae4"', "6629fae4"),
    ('Digest username="ada", realm="r", response="6629fae4"', "6629fae4"),
    ("Authorization: AWS4-HMAC-SHA256 Credential=AKIA/2026, SignedHeaders=host, Signature=fe5f80f7", "fe5f80f7"),
    ("Authorization: Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", "9944b"),
    ("Proxy-Authorization: Negotiate YIIJvwYGKwYBBQUC", "YIIJ"),
    ("Cookie: a=first; c=second", "second"),
    ("Set-Cookie: sid=first; Path=/; HttpOnly, id=second; Expires=Wed, 09 Jun 2027 10:18:14 GMT", "second"),
    ("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=first; c=second\r\nAccept: */*", "second"),
    (r"b'GET / HTTP/1.1\r\nHost: x\r\nCookie: a=first; c=second\r\nAccept: */*'", "second"),
    ("{'Cookie': 'a=first; c=second'}", "second"),
    ("""curl -H 'Cookie: a=first; c=second' https://x/""", "second"),
    ("""curl -H "X-Team: blue-9" https://x/""", "blue-9"),
    ("""Command '['curl', '-H', 'X-Team: blue-9', 'https://x/']' returned non-zero exit status 22.""", "blue-9"),
    ("curl -u ada:letmein https://x/", "letmein"),
    ("mysql --password letmein -h db", "letmein"),
    ("Command '['psql', '--password', 'letmein']' returned non-zero exit status 1.", "letmein"),
    ("x --api-key=abcdefgh", "abcdefgh"),
    ("X-Api-Key: abcdefgh", "abcdefgh"),
    ("Ocp-Apim-Subscription-Key: 0123456789abcdef", "0123456789"),
    ("{'X-Auth-Token': 'abcd'}", "abcd"),
    ('{"access_token": "abcdefgh", "expires_in": 3600}', "abcdefgh"),
    ('{"error": "{\\"password\\": \\"letmein\\"}"}', "letmein"),
    ('{"password": 12345678}', "12345678"),
    ('{"user": "ada", "password": "let', '"let'),
    ("https://x/?api_key=abc&page=2", "abc"),
    ("https://x/cb?code=4/0AX4XfWhyAbCdEf123456&state=xyz", "0AX4"),
    ("https://x/cb?code=0123456789abcdef0123", "0123456789"),
    ("https://maps.x.com/api?key=AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6q", "AIza"),
    ("https://x/?access_token=abc#frag", "abc"),
    ("password='letmein'", "letmein"),
    ("connect(password=\"a b letmein\", port=5)", "letmein"),
    ("dbPassword=letmein", "letmein"),
    ("client_secret: hunter2", "hunter2"),
    ("db:\n  password: letmein\n  port: 5", "letmein"),
    ("apiKey=a1b2c3d4e5", "a1b2"),
    ("refreshToken: 1//0gAbCdEf-123456", "0gAb"),
    ("invalid token: eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "c2ln"),
    ('{"sent": {"Host": "x", "User-Agent": "y", "X-Team": "blue-9"}}', "blue-9"),
    ("{'user-agent': 'y', 'x-team': 'blue-9', 'tr", "blue-9"),
    ("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\nX-Team: blue-9\r\n\r\n", "blue-9"),
    (r"b'GET / HTTP/1.1\r\nX-Team: blue-9\r\nUser-Agent: y\r\n\r\n'", "blue-9"),
    ('<header name="X-Api-Key">hello</header>', "hello"),
    ("<param name='password' value='letmein'/>", "letmein"),
    ('<add key="ApiKey" value="letmein" />', "letmein"),
    ('<add value="letmein" key="ApiKey" />', "letmein"),
    (r"b'<Parameter Name=\"access_token\">hello</Parameter>'", "hello"),
    ("&lt;header name=&quot;X-Api-Key&quot;&gt;hello&lt;/header&gt;", "hello"),
    ('[{"key": "password", "value": "letmein"}]', "letmein"),
    ("{'name': 'X-Api-Key', 'value': 'letmein', 'enabled': True}", "letmein"),
    ("could not parse postgresql://ada:let/me#in@db/x", "me#in"),
    ("redirect_uri=https%3A%2F%2Fx%2F%3Fapi_key%3Dabc%26page%3D2", "abc"),
    ("mysql -u root -pletmein sales", "letmein"),
    ("POST https://hooks.slack.com/services/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", "aB3d"),
    ("POST https://discord.com/api/webhooks/123456789012345678/aB3dE5fG7hI9jK1lM3nO5pQ7", "aB3d"),
    ("https://api.telegram.org/bot123456789:AAabcdefghijklmnopqrstuvwxyz0123456/getMe", "AAabc"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----", "b3Bl"),
]  # fmt: skip

INNOCENT = [
    "no closing tag for <token> in line 3",
    '<field name="password" type="text">required</field>',
    '<input name="token"/><p>Please sign in</p>',
    '<key name="primary">id</key>',
    '{"key": "city", "value": "Bonn"}',
    '{"name": "password", "value": null}',
    "https://registry.npmjs.org:443/@scope/pkg",
    "see https://x/?a=%3D1",
    "mysql -u root -h db -P 3306",
    "https://api.telegram.org/docs",
    "Unexpected element <password> here",
    "<login><password>required</password><token/></login>",
    'body = f"<token>{token}</token>"',
    "<Error><Code>NoSuchKey</Code><Key>data/2024.csv</Key></Error>",
    "<credentials><user>ada</user></credentials>",
    "Unexpected token: hello",
    "Unexpected token: 'hello'",
    "Unexpected token '<' at line 1, column 5",
    "https://api.x.com/airports?code=DE&page=2",
    "https://api.x.com/airports?country=DE;code=DE",
    "https://api.x.com/columns?key=carrier&auth=none",
    "token: expected ']'",
    "missing key: user",
    "KeyError('token')",
    "('token', 'missing')",
    "KeyError: 'password'",
    "None of [Index(['id', 'password', 'email'])] are in the [columns]",
    "passed: 12, auth: none",
    "secret santa",
    "SyntaxError: invalid token: =",
    "the key=value pair",
    "cookies: 3",
    "cookies: 3000",
    "tokens: 1234, keys: 5",
    "prompt_tokens=4096, max_tokens=8192",
    "password: must be at least 8 characters",
    "password: field required",
    "Invalid password: too short",
    "api_key\n  Field required [type=missing, input_value={'a': 1}, input_type=dict]",
    "def login(user: str, password: str = None, token: Optional[str] = None):",
    "client = Client(api_key=os.environ['API_KEY'], password=getpass(), token=token)",
    "    self.session = connect(password=self.password, api_key=settings.api_key)",
    "f() got an unexpected keyword argument 'api_key'",
    "f() missing 1 required positional argument: 'token'",
    "authorization: required",
    "Authorization: Bearer <token>",
    "the Authorization header is missing",
    "Basic research/development of 2 models failed",
    "the basic authentication failed",
    "Digest: sha256:abc123 does not match",
    "404 Not Found for url https://api.x.com/users/999?page=2",
    "Client error '401 Unauthorized' for url 'https://api.x.com/me'",
    'duplicate key value violates unique constraint "pk_user_organization_membership"',
    "Key (user_id)=(42) already exists.",
    "primary_key=5, foreign_key: user_id",
    "No module named 'sk-learn-contrib-examples-package'",
    "skill-assessment-results-overview",
    "tokenizer: bert-base-uncased, eos_token='</s>', pad_token='[PAD]'",
    "Parser(token='NAME', value='x')",
    "credentials: not found",
    'Unable to locate credentials. You can configure credentials by running "aws configure".',
    "monkey=banana",
    "key='carrier', value=3",
    "{'key': 'value', 'name': 'Ada', 'count': 3}",
    "Error at 10:20: ada@example.com was not found",
    "git clone git@github.com:x/y.git failed",
    "password=None, token=None, api_key=''",
    "the cookie: it crumbles",
    "ssh://git@github.com/x/y.git",
    "if password == other or token != expected:",
    "secret: Santa",
    "invalid literal for int() with base 10: 'x'",
    "Expecting value: line 1 column 1 (char 0)",
    "could not convert string to float: 'token'",
    "https://example.com/@user?q=a@b.c",
    "//registry.npmjs.org/:_version=@scope/pkg",
    "// see: ada@example.com",
    "x = 1 // note:this, @ada said",
    "//server/share@2x.png, //ada@server/share",
    "//cdn.x.com:8080/a@2x.png",
    "a // b: c@d",
    "Authorization: the header is missing\nDetail: see the manual",
    "the header User-Agent is missing: set it",
    "{'agent': 'Ada', 'encoding': 'utf-8'}",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_t10_a_secret_of_a_real_form_goes(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact_text(text)
    assert REDACTED in redact_text(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_t10_an_innocent_text_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(("text", "_"), SECRETS)
def test_t10_redacting_twice_changes_nothing_more(text: str, _: str) -> None:
    assert redact_text(redact_text(text)) == redact_text(text)


def test_t10_what_stands_around_a_secret_stays() -> None:
    assert redact_text("GET\nCookie: a=b; c=d\nHost: x") == f"GET\nCookie: {REDACTED}\nHost: x"
    assert redact_text("""curl -H 'Cookie: a=b; c=d' https://x/""") == f"curl -H 'Cookie: {REDACTED}' https://x/"
    assert redact_text("https://x/?token=abc&page=2") == f"https://x/?token={REDACTED}&page=2"
    assert redact_text("UID=sa;PWD=letmein;Encrypt=yes") == f"UID=sa;PWD={REDACTED};Encrypt=yes"
    assert redact_text("connect(password=letmein)") == f"connect(password={REDACTED})"


@pytest.mark.parametrize(
    "text",
    [
        "postgres://ada:hunter2@db/x",
        "https://hunter2@api.x.com/",
        "GET https://x/?api_key=hunter2&page=1",
        "https://s3/x?X-Amz-Signature=hunter2&a=1",
        "Authorization: Bearer abcdef.hunter2",
        "{'Authorization': 'Basic hunter2=='}",
        '{"x-api-key": "hunter2"}',
        "[(b'x-auth-token', b'hunter2')]",
        "password=hunter2",
        'connect(password="a b hunter2", port=5)',
        "client_secret: hunter2",
        'get(url, headers={"X-Anything": "hunter2", "b": "hunter2"})',
        "get(url, headers={'X-A': 'hunter2', 'B': f'{token} x'})",
        "get(url, auth=('ada', 'hunter2'))",
        "get(url, cookies={'sid': 'hunter2'})",
        "AKIAHUNTER2HUNTER2AB".replace("HUNTER2", "HUNTER2"),
        "sk-proj-hunter2hunter2hunter2",
        "ghp_hunter2hunter2hunter2hunter2",
        "eyJhbGciOiJI.eyJodW50ZXIy.hunter2hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_t10_secrets_are_redacted(text: str) -> None:
    assert "hunter2" not in redact_text(text).lower()
    assert REDACTED in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "404 Not Found for url https://api.x.com/users/999?page=2",
        "KeyError: 'user:1'",
        "the basic authentication failed",
        "tokens: 1234, keys: 5",
        "monkey=banana",
        "key='carrier', value=3",
        "primary_key=5",
        "Error at 10:20: ada@example.com was not found",
        "{'key': 'value', 'name': 'Ada'}",
        "skill-assessment-results-overview",
    ],
)
def test_t10_plain_text_stays(text: str) -> None:
    assert redact_text(text) == text


def test_t10_redaction_of_long_texts_is_quick() -> None:
    begin = time.perf_counter()
    for text in (
        "a" * 200_000,
        "a-" * 100_000,
        "token" * 40_000,
        "'" * 100_000,
        "headers=" * 20_000,
        "{" * 100_000,
        "a://" * 50_000,
        "sk-" * 60_000,
        "Cookie: a=" * 20_000,
        'password: "' * 20_000,
        '\\"' * 100_000,
        "auth=(a(b)" * 20_000,
        "-H 'a: " * 30_000,
        "<token>" * 30_000,
        "<token> " + "a " * 100_000,
    ):
        redact_text(text)
    assert time.perf_counter() - begin < 20


@pytest.mark.parametrize("name", ["Authorization", "authorization", b"Cookie", "Set-Cookie", "X-Api-Key",
                                  "Ocp-Apim-Subscription-Key", "X-Auth-Token", "password", "_password", "api_key",
                                  "aws_secret_access_key", "token"])  # fmt: skip
def test_t10_names_that_hold_secrets(name: Any) -> None:
    assert is_secret_name(name) is True


@pytest.mark.parametrize(
    "name", ["key", "keys", "status", "primary_key", "content-type", "monkey", 5, None, "tokens", "message"]
)
def test_t10_names_that_hold_none(name: Any) -> None:
    assert is_secret_name(name) is False


@pytest.mark.parametrize("around", ["", "x" * 40])
def test_a_text_with_any_hint_is_looked_at_whole_and_as_a_part_of_a_repr(around: str) -> None:
    for hint in _all_hints():
        for text in (hint, hint.upper(), f"'{hint}", f"\"'{hint}", f"\\{hint}\n{hint}", f"é{hint}"):
            text = around + text + around
            assert not is_harmless(text)
            assert not is_harmless(repr([text]))
    assert is_harmless(around)
    assert is_harmless(f"{{'n': 5, 'm': '{around}'}}")
