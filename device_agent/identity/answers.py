"""What comes on a frame's ``answer`` topic."""

from protocol.codec import decode
from protocol.errors import Refused
from protocol.messages import AnyAnswer


def answer_to(nonce: str, payload: bytes) -> AnyAnswer | None:
    """The answer in ``payload``, None when it is garbage or answers another question than this nonce's."""
    try:
        answer: AnyAnswer = decode(payload, AnyAnswer)  # type: ignore[arg-type]  # a union is a type to msgspec
    except Refused:
        return None
    return answer if answer.nonce == nonce else None
