"""The next certificate, asked for over the connection there is, long before the present one ends. Without I/O.

From two thirds of its life on (each frame a little later than that, so that those born together do not come together),
or as soon as an Ack asks for it, the frame makes its next key and sends a request for it. What comes back is judged
(``certificates.accept``) and handed to ``adopt``; whoever drives this then connects anew. No answer, or no: again,
more and more patiently, and ops are told once.
"""

import datetime as dt
import hashlib
import random
import secrets
from collections.abc import Callable
from typing import Protocol

from cryptography import x509

from device_agent.identity.answers import answer_to
from device_agent.identity.certificates import Accepted, accept
from device_agent.identity.key import FrameKey
from device_agent.settings.kinds import ConfigError
from protocol import topics
from protocol.codec import decode, encode
from protocol.errors import Refused
from protocol.exchange import Command, Publish, Subscribe, Unsubscribe
from protocol.messages import Ack, CertificateAnswer, CertificateRequest, RefusedAnswer

ANSWER_S = 30.0
AGAIN_S = (60.0, 300.0, 1_800.0, 7_200.0, 21_600.0)
"""Waits before it is asked again; the last one for good."""
LOOK_EVERY_S = 600.0
"""Whether it is time is looked up this often."""
SETTLE_S = 600.0
"""After a renewal, an Ack that still asks for one is late."""
EARLY, SPREAD = 2 / 3, 1 / 12
"""Of a certificate's life: when renewal begins, and over how much of it frames spread themselves."""


class Holder(Protocol):
    """What holds the frame's key and certificate."""

    def certificate(self) -> x509.Certificate:
        """The one in use. Raises ConfigError when it cannot be read."""

    def authorities(self) -> list[x509.Certificate]:
        """Those the frame trusts. Raises ConfigError."""

    def next_key(self) -> FrameKey:
        """The key to ask for; the same until it is adopted. Raises OSError."""

    def adopt(self, accepted: Accepted) -> None:
        """Step to the new pair, durably. Raises OSError, Refused."""


def due(certificate: x509.Certificate) -> dt.datetime:
    """When to ask for the next one; always the same for the same certificate."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    drawn = int.from_bytes(hashlib.sha256(certificate.tbs_certificate_bytes).digest()[:4]) / 2**32
    return begin + (end - begin) * (EARLY + SPREAD * drawn)


class Renewal:
    """``clock`` gives security time (None: not known, then nothing is due). ``note`` hears what went wrong: a kind and
    a sentence; ``adopted`` that there is a new pair."""

    def __init__(
        self,
        frame_id: str,
        holder: Holder,
        clock: Callable[[], dt.datetime | None],
        note: Callable[[str, str], None],
        adopted: Callable[[], None],
    ) -> None:
        self._frame_id = frame_id
        self._holder = holder
        self._clock = clock
        self._note = note
        self._adopted = adopted
        self._answer = topics.frame_topic(frame_id, "answer")
        self._ack = topics.frame_topic(frame_id, "ack")
        self._online = False
        self._wanted = False
        self._nonce: str | None = None
        self._key: FrameKey | None = None
        self._at: float | None = None
        self._tries = 0
        self._told: str | None = None
        self._settled_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""
        return self._at if self._online else None

    def connected(self, now: float) -> list[Command]:
        """A connection stands."""
        self._online = True
        if self._nonce is not None:  # the question went down with the last connection
            return self._ask(now)
        if self._at is None or self._tries == 0:
            self._at = now
        return []

    def disconnected(self) -> None:
        """The connection is gone."""
        self._online = False

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        """A message came in."""
        if topic == self._ack:
            self._hear(payload, now)
            return []
        if topic != self._answer or self._nonce is None:
            return []
        match answer_to(self._nonce, payload):
            case CertificateAnswer(certificate=certificate, ca=ca):
                self._nonce = None
                self._judge(certificate, ca, now)
            case RefusedAnswer(detail=detail):
                self._nonce = None
                self._failed(f"The backend gives this frame no new certificate: {detail}", now)
            case _:
                return []
        return [Unsubscribe(self._answer)]

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        if not self._online or self._at is None or now < self._at:
            return []
        if self._nonce is not None:
            self._nonce = None
            self._failed("No new certificate came: see that the bridge runs.", now)
            return [Unsubscribe(self._answer)]
        try:
            if self._wanted or self._is_time():
                return self._ask(now)
        except ConfigError as error:  # its file rotted; the connection that stands does not need it
            self._failed(str(error), now)
            return []
        self._at = now + LOOK_EVERY_S
        return []

    def untaken(self, now: float) -> None:
        """The broker did not take what was adopted last; the pair before it is in use again."""
        self._settled_at = None
        self._failed("The broker refuses this frame's new certificate: see that its users are brought up to date.", now)

    def _hear(self, payload: bytes, now: float) -> None:
        try:
            asked = decode(payload, Ack).renew is True
        except Refused:
            return
        settling = self._settled_at is not None and now - self._settled_at < SETTLE_S
        if asked and not settling and not self._wanted:
            self._wanted = True
            if self._nonce is None and self._tries == 0:  # else it is being tried already
                self._at = now

    def _is_time(self) -> bool:
        now = self._clock()
        return now is not None and now >= due(self._holder.certificate())

    def _ask(self, now: float) -> list[Command]:
        try:
            self._key = self._holder.next_key()
            request = self._key.request(self._frame_id)
        except OSError as error:
            self._failed(f"The frame cannot make its next key ({error}): check its storage.", now)
            return []
        self._nonce = secrets.token_hex(16)
        self._at = now + ANSWER_S
        message = CertificateRequest(frame_id=self._frame_id, nonce=self._nonce, csr=request)
        return [
            Subscribe(self._answer),
            Publish(topics.frame_topic(self._frame_id, "request"), encode(message)),
        ]

    def _judge(self, certificate: str, ca: str, now: float) -> None:
        key = self._key
        if key is None:
            return
        try:
            trusted = self._holder.authorities()
            accepted = accept(self._frame_id, key.public, certificate, ca, trusted, self._clock())
            self._holder.adopt(accepted)
        except Refused as refused:
            self._failed(refused.detail, now)
            return
        except ConfigError as damaged:
            self._failed(str(damaged), now)
            return
        except OSError as error:
            self._failed(f"The new certificate cannot be kept ({error}): check the frame's storage.", now)
            return
        if accepted.left_out:
            self._note("unknown_authority", left_out(accepted))
        self._key = self._told = None
        self._wanted, self._tries = False, 0
        self._settled_at = now
        self._at = now + LOOK_EVERY_S
        self._adopted()

    def _failed(self, sentence: str, now: float) -> None:
        wait = AGAIN_S[min(self._tries, len(AGAIN_S) - 1)]
        self._tries += 1
        self._at = now + wait * random.uniform(0.75, 1.25)  # noqa: S311  jitter needs no secrecy
        if self._told != sentence:
            self._told = sentence
            self._note("renewal_failed", sentence)


def left_out(accepted: Accepted) -> str:
    """The sentence about authorities that nobody vouched for."""
    names = ", ".join(accepted.left_out)
    return f"The answer also names {names}, which no authority this frame trusts has signed: it is not trusted."
