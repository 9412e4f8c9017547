"""What time is it? A frame without a clock asks for nothing else until it knows.

The connection this runs over checked the broker's chain but no dates, so nothing on it is believed but what the
director signed: the answer must carry this process's own fresh nonce under a key of the director's stored root. Where
it does not, the roots are walked first (offline keys sign them, and their order needs no clock): the director's key may
have changed while the frame lay in a drawer.
"""

import random
import secrets
from collections.abc import Callable

from device_agent.clock import SecurityClock
from device_agent.identity.answers import answer_to
from device_agent.ports import FrameTrust
from device_agent.trust.director import verify_time
from protocol import topics
from protocol.codec import encode
from protocol.errors import Reason, Refused
from protocol.exchange import Command, Done, Exchange, Publish, Subscribe, Unsubscribe
from protocol.messages import RefusedAnswer, TimeAnswer, TimeRequest
from protocol.sequences import DEFAULT_RETRY, Perform, RetryPolicy, refresh

ANSWER_S = 10.0
"""An answer that took longer says too little about now."""
AGAIN_S = (2.0, 5.0, 15.0, 60.0, 300.0)
WALK_EVERY_S = 600.0
"""Roots are looked for at most this often, whatever answers come."""


class Asking:
    """Driven like a FrameCore. ``trust`` opens a refresh over the stored roots; ``note`` hears why an answer was
    refused, a kind and a sentence."""

    def __init__(
        self,
        frame_id: str,
        clock: SecurityClock,
        trust: Callable[[], FrameTrust],
        note: Callable[[str, str], None],
        retry: RetryPolicy = DEFAULT_RETRY,
    ) -> None:
        self._frame_id = frame_id
        self._clock = clock
        self._trust = trust
        self._note = note
        self._retry = retry
        self._topic = topics.frame_topic(frame_id, "answer")
        self._online = False
        self._nonce: str | None = None
        self._at: float | None = None
        self._tries = 0
        self._walk: Exchange[None] | None = None
        self._walked_at: float | None = None
        self._told: set[str] = set()

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""
        walk = self._walk.deadline if self._walk is not None else None
        return min((at for at in (self._at, walk) if at is not None), default=None)

    def connected(self, now: float) -> list[Command]:
        """A connection stands."""
        self._online = True
        self._tries = 0
        if self._walk is not None:
            return self._walk.connected(now)
        return self._ask(now)

    def disconnected(self) -> None:
        """The connection is gone."""
        self._online = False
        self._at = self._nonce = None
        if self._walk is not None:
            self._walk.disconnected()

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        """A message came in."""
        if self._walk is not None:
            return [*self._walk.received(topic, payload, now), *self._walked(now)]
        if topic != self._topic or self._nonce is None:
            return []
        match answer_to(self._nonce, payload):
            case TimeAnswer(nonce=nonce, time=envelope):
                return self._judge(lambda: verify_time(envelope, self._trust().director_root, nonce), now)
            case RefusedAnswer(detail=detail):
                self._tell("no_time", f"The backend does not say what time it is: {detail}")
                self._nonce = None
        return []

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        """Walking roots performs nothing."""
        del work, outcome, now
        return []

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        commands: list[Command] = []
        if self._walk is not None:
            commands += [*self._walk.tick(now), *self._walked(now)]
        if self._at is not None and now >= self._at and self._online:
            commands += self._ask(now)
        return commands

    def _ask(self, now: float) -> list[Command]:
        self._nonce = secrets.token_hex(16)
        wait = ANSWER_S + AGAIN_S[min(self._tries, len(AGAIN_S) - 1)] * random.uniform(0.5, 1.0)  # noqa: S311  jitter
        self._tries += 1
        self._at = now + wait
        request = TimeRequest(frame_id=self._frame_id, nonce=self._nonce)
        return [
            Unsubscribe(self._topic),
            Subscribe(self._topic),
            Publish(topics.frame_topic(self._frame_id, "request"), encode(request)),
        ]

    def _judge(self, verify: Callable[[], int], now: float) -> list[Command]:
        self._nonce = None  # one answer to each question
        try:
            self._clock.learn(verify())
        except Refused as refused:
            may_walk = self._walked_at is None or now - self._walked_at >= WALK_EVERY_S
            if may_walk and refused.reason in (Reason.WRONG_SIGNATURE, Reason.OLD_VERSION):
                return self._look_for_roots(now)
            self._tell(refused.reason.value, refused.detail)
            return []
        self._at = None
        self._told.clear()
        return []

    def _tell(self, kind: str, detail: str) -> None:
        """Each kind once until the time is known: whoever answers may do so again and again."""
        if kind not in self._told:
            self._told.add(kind)
            self._note(kind, detail)

    def _look_for_roots(self, now: float) -> list[Command]:
        self._walked_at, self._at = now, None
        self._walk = Exchange(refresh(self._trust(), [], self._retry))
        return [*self._walk.start(now, connected=self._online), *self._walked(now)]

    def _walked(self, now: float) -> list[Command]:
        if self._walk is None or self._walk.done is None:
            return []
        # It ends by saying that it cannot go on without the time; the roots it found are stored.
        self._walk = None
        self._clock.rooted(self._trust().director_root.version)
        return self._ask(now) if self._online else []
