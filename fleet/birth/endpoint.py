"""The four paths of ``protocol.birth``: bytes in, (status, bytes) out. Every refusal is one sentence."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from fleet.addresses import network_of
from fleet.birth.renewal import new_nonce, renew_lapsed
from fleet.birth.throttle import Throttle
from fleet.models import Frame
from fleet.services.certificates import IssuedCertificate
from fleet.services.claims import redeem
from protocol import birth
from protocol.codec import decode, encode
from protocol.envelope import Envelope
from protocol.errors import Reason, Refused

log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)

STATUS = {Reason.NOT_AVAILABLE: 404, Reason.WRONG_IDENTITY: 403, Reason.WRONG_SIGNATURE: 403, Reason.EXPIRED: 410}
TOO_MANY = "Too many refused requests came from this address: wait ten minutes, then try again."


@dataclass(frozen=True)
class Endpoint:
    """``time`` signs what time it is for a nonce; ``mqtt`` is the broker's address as frames reach it, if known."""

    time: Callable[[str], Envelope]
    mqtt: str | None
    throttle: Throttle = field(default_factory=Throttle)

    def answer(self, method: str, path: str, body: bytes, address: str) -> tuple[int, bytes]:
        """Answer one request from ``address``. Raises only what the database raises, and faults of ours."""
        paths: dict[str, Callable[[bytes], msgspec.Struct]] = {
            birth.CLAIM_PATH: self._claim,
            birth.NONCE_PATH: self._nonce,
            birth.RENEW_PATH: self._renew,
            birth.TIME_PATH: self._time,
        }
        if path not in paths:
            return 404, said(f"There is nothing at {path[:100]}: this is the birth endpoint of a framefleet.")
        if method != "POST":
            return 405, said("Send a POST with a JSON body.")
        network = network_of(address) or address
        if self.throttle.is_closed_to(network):
            return 429, said(TOO_MANY)
        try:
            return 200, encode(paths[path](body))
        except Refused as refused:
            self.throttle.refused(network)
            log.info("Refused %s from %s: %s", path, address, refused.detail)
            return STATUS.get(refused.reason, 400), said(refused.detail)

    def _claim(self, body: bytes) -> birth.Issued:
        born = redeem(_read(body, birth.ClaimRequest))
        return self._issued(born.certificate, born.hardware, born.locale)

    def _nonce(self, body: bytes) -> birth.Nonce:
        return birth.Nonce(nonce=new_nonce())

    def _renew(self, body: bytes) -> birth.Issued:
        issued = renew_lapsed(_read(body, birth.RenewRequest))
        frame = Frame.objects.get(pk=issued.frame_id)
        return self._issued(issued, frame.hardware, frame.locale)

    def _time(self, body: bytes) -> Envelope:
        return self.time(_read(body, birth.Nonce).nonce)

    def _issued(self, issued: IssuedCertificate, hardware: str, locale: str) -> birth.Issued:
        return birth.Issued(
            frame_id=issued.frame_id,
            hardware=hardware,
            locale=locale,
            certificate=issued.certificate,
            ca=issued.ca,
            mqtt=self.mqtt,
        )


def said(sentence: str) -> bytes:
    """The body of a refusal."""
    return msgspec.json.encode({"detail": sentence})


def _read(body: bytes, kind: type[T]) -> T:
    message = decode(body, kind, limit=birth.MAX_BODY)
    if b"\\u0000" in body:  # PostgreSQL's text holds no NUL
        raise Refused(Reason.BAD_MESSAGE, "A request must not hold a NUL character.")
    return message
