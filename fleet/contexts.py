"""The context of a playback as it is stored: its words of ``protocol.messages.CONTEXTS``, such as
``loudness=quiet pose=turned``; "" when the frame said none.

One text for all words keeps one row for each frame, day and combination, and shows which words come together.
"""

from functools import lru_cache

from protocol.messages import CONTEXTS

MAX_CONTEXT_TEXT = 200


def context_text(words: dict[str, str]) -> str:
    """The words that are known, as one text. Words of newer frames are left out, so that there are never more texts
    than these words can make."""
    return _text(tuple(words.items()))


def context_words(text: str) -> dict[str, str]:
    """What ``context_text`` made a text of."""
    return dict(word.split("=", 1) for word in text.split())


@lru_cache(maxsize=1_000)
def _text(words: tuple[tuple[str, str], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(words) if value in CONTEXTS.get(key, ()))
