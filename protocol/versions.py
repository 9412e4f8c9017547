"""Comparing versions, the same way on frames and in the backend."""


def older(have: str, need: str) -> bool:
    """Whether version ``have`` is older than ``need``; both are dotted numbers, anything else counts as 0."""
    mine, theirs = ([int(part) if part.isdecimal() else 0 for part in text.split(".")] for text in (have, need))
    width = max(len(mine), len(theirs))
    return mine + [0] * (width - len(mine)) < theirs + [0] * (width - len(theirs))
