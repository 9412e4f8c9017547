"""JSON as somebody writes it who wants a decoder to fail: real messages with lies, damage and bombs in them."""

import json
import os
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from protocol.limits import MAX_MESSAGE
from tests.device_agent.fuzzing import damaged, lying

BOMBS = [
    b"",
    b"\0",
    b"null",
    b"[]",
    b"{}",
    b'"\\ud800"',
    b"NaN",
    b"-Infinity",
    b"1e999999",
    b"9" * MAX_MESSAGE,
    b"[" * MAX_MESSAGE,
    b'{"a":' * (MAX_MESSAGE // 5),
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b'"' + b"a" * MAX_MESSAGE,
    b'{"v":1,' + b'"v":1,' * 10_000 + b'"v":1}',
]
TOKENS = [
    "NaN", "Infinity", "1e999", "-0", "0.1", "9" * 5_000, "-" + "9" * 400, '"\\ud800"', '"\\u0000"', '"\U0001f5bc"',
    "null", "true", "[" * 2_000 + "]" * 2_000, "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300,
    '"' + "x" * 30_000 + '"',
    '{"sha256":1}', '["../../etc"]', '"1970-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"',
]  # fmt: skip
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"(?!\s*:)|-?\d+(?:\.\d+)?|true|false|null')


@st.composite
def spliced(draw: st.DrawFn, texts: Sequence[bytes]) -> bytes:
    """One of the JSON texts with one or two values written as no honest encoder would, or a key that comes twice."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 2))):
        found = list(_VALUE.finditer(text))
        if not found:
            break
        place = draw(st.sampled_from(found))
        token = draw(st.sampled_from(TOKENS)).encode()
        if draw(st.integers(0, 4)) == 0:
            token = text[place.start() : place.end()] + b',"v":2,"version":3,"signed":{},"keyid":' + token
        text = text[: place.start()] + token + text[place.end() :]
    return text


def told_wrong(text: bytes) -> st.SearchStrategy[bytes]:
    """The document in ``text`` saying something else in a few places."""
    document: Any = json.loads(text)
    return lying(document).map(lambda lie: json.dumps(lie).encode())


def hostile(texts: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """What a decoder of such texts may be given."""
    lies = [told_wrong(text) for text in texts]
    return st.one_of(
        *lies, *lies, spliced(texts), spliced(texts), damaged(texts), st.sampled_from(BOMBS), st.binary(max_size=200)
    )


def fuzz(examples: int) -> settings:
    """More by hand: FUZZ_EXAMPLES=5000 pytest tests/device_agent/test_fuzz_wire.py"""
    return settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", examples)),
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
