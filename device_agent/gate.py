"""Which DesiredState the frame acts upon. Whose words a refusal is about decides how far it reaches.

- Forged, unreadable, for another frame, or older than what the frame holds: anybody with access to the broker can send
  such a thing, again and again. It leaves a HealthEvent and, on a frame at rest, the failure in the report. It names no
  release there, whatever it says inside, so it cannot fail a Deployment and thereby stop a rollout.
- On a frame that does not know the time, nobody can say whether a DesiredState has expired. It is not held, costs one
  HealthEvent, and is judged when it comes again; one that was held already is judged at the next connection.
- Signed by the director for this frame, newer than what the frame holds, but expired: the release it names really was
  meant for this frame. The report names it as target, in state ``failed``, and its Deployment gets reason and sentence.
  The frame holds it like any other, so nothing older is accepted afterwards.

Refusals of a release (roles disagree, wrong base model, ...) come later, in ``convergence``, and name it too.
"""

import logging
import time
from collections import deque
from collections.abc import Callable

from msgspec import UNSET
from tuf.api.metadata import Root

from device_agent.failures import PASSING, failure_of
from device_agent.installer.driver import Installer
from device_agent.installer.events import Disowned, Kept, Objected, RefusedOffer, RefusedRelease, Renewed, Settled
from device_agent.installer.machine import INSTALLING, state_of
from device_agent.ports import DocumentStore
from device_agent.trust.director import require_current, verify_desired
from device_agent.trust.time import Now, utc_now
from protocol.chunks import sha256_hex
from protocol.errors import Reason, Refused
from protocol.messages import DesiredState, Failure, TargetRef

log = logging.getLogger(__name__)

DESIRED = "desired"
"""Name of the stored envelope among the documents."""
REMEMBERED = 64
"""Refused envelopes that are known again; forgetting one only means one more HealthEvent."""
OBJECTIONS = 20
"""Stray envelopes that are recorded in OBJECTIONS_S seconds; whoever owns the broker could send new ones without end,
and fill outbox and flash with them."""
OBJECTIONS_S = 3_600.0


class Gate:
    """Judges envelopes and stores the one the frame holds. ``note`` records a refusal that concerns the journal not."""

    def __init__(
        self,
        frame_id: str,
        documents: DocumentStore,
        installer: Installer,
        director_root: Root,
        *,
        note: Callable[[Failure], None],
        now: Now = utc_now,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._elapsed = elapsed
        self._recorded: deque[float] = deque(maxlen=OBJECTIONS)
        self._frame_id = frame_id
        self._documents = documents
        self._installer = installer
        self._director_root = director_root
        self._note = note
        self._now = now
        self._timeless = self._said_timeless = False
        self._refused: set[str] = set()

    def trust(self, director_root: Root) -> None:
        """The director's root as it is now; what an older one refused is judged anew."""
        if director_root.version != self._director_root.version:
            self._director_root = director_root
            self._refused.clear()
            self.disown()

    def disown(self) -> None:
        """Forget the version that is held if the director's keys of today did not sign it. Whoever stole an earlier key
        may have sent one so high that nothing honest comes after it; without that key it cannot come again."""
        envelope = self._documents.load(DESIRED)
        if envelope is None or self._installer.journal.desired_version == 0:
            return
        try:
            verify_desired(envelope, self._director_root, self._frame_id, 0)
        except Refused as refused:
            if refused.reason is Reason.WRONG_SIGNATURE:
                self._installer.apply(Disowned())

    def holds_under(self, director_root: Root) -> bool:
        """Whether that root of the director signed the DesiredState that is held."""
        return self._held(director_root) is not None

    def knows(self, envelope: bytes) -> bool:
        """Whether exactly this one was refused before."""
        return sha256_hex(envelope) in self._refused

    def read(self, envelope: bytes) -> DesiredState:
        """The director's word to this frame, expired or not. Raises Refused; see ``verify_desired``."""
        return verify_desired(envelope, self._director_root, self._frame_id, self._installer.journal.desired_version)

    def accept(self, desired: DesiredState, envelope: bytes) -> bool:
        """Hold a newer one. False when it has expired and names nothing to install, or when nobody can say whether it
        has: then nothing has changed, and it comes again."""
        expired = self._expiry(desired)
        if expired is not None and (self._timeless or self._to_install(desired) is None):
            self.object(envelope, expired)
            return False
        self._documents.save(DESIRED, envelope)
        return True

    def renews(self, desired: DesiredState, envelope: bytes) -> bool:
        """Whether ``desired`` is the order that is held, issued anew before it expires; then it is held instead.

        What is on its way goes on as it is, and a release that failed or went back is not tried again for it.
        """
        held = self._held(self._director_root)
        journal = self._installer.journal
        if held is None or held.version != journal.desired_version or self._expiry(desired) is not None:
            return False
        if desired.order is UNSET or (desired.order, desired.release) != (held.order, held.release):
            return False
        if not (journal.state in ("reverted", "failed") or (self._installing and desired.transfer == held.transfer)):
            return False
        self._documents.save(DESIRED, envelope)
        self._installer.apply(Renewed(desired.version))
        return True

    def _held(self, director_root: Root) -> DesiredState | None:
        """The DesiredState that is held, if that root of the director signed it."""
        envelope = self._documents.load(DESIRED)
        try:
            return None if envelope is None else verify_desired(envelope, director_root, self._frame_id, 0)
        except Refused:
            return None

    def object(self, envelope: bytes, refused: Refused) -> None:
        """Refuse something that anybody may have sent, or that cannot be judged without the time, once."""
        if refused.reason is Reason.NO_TIME:
            self._say_timeless(refused)
            return
        if len(self._refused) >= REMEMBERED:
            self._refused.clear()
        self._refused.add(sha256_hex(envelope))
        if not self._may_record():
            log.warning("Refused, and not recorded after so many others: %s", refused.detail)
        elif refused.reason is Reason.OLD_VERSION:
            # A late copy, or a replay: worth an event, but nothing is wrong with the frame.
            self._note(failure_of(refused))
        else:
            self._installer.apply(Objected(failure_of(refused)))

    def _may_record(self) -> bool:
        now = self._elapsed()
        if len(self._recorded) == OBJECTIONS and now - self._recorded[0] < OBJECTIONS_S:
            return False
        self._recorded.append(now)
        return True

    def confirm(self, desired: DesiredState, envelope: bytes) -> bool:
        """The version that is held came again: a stray one before it is forgotten, a longer life is taken over.

        True when an installation that had failed because of its expiry can go on.
        """
        journal = self._installer.journal
        if journal.failure is not None and journal.state == "idle":
            self._installer.apply(Kept(desired.version))
        elif journal.failure is not None and journal.state == "committed":
            self._installer.apply(Settled(desired.version))
        elif journal.state == "failed" and desired.expires_at > self._stored_expiry():
            self._documents.save(DESIRED, envelope)
            return self.expired
        return False

    def pending(self) -> DesiredState | None:
        """The stored one, if it has not been carried out and may be; an expired one has been refused afterwards."""
        envelope = self._documents.load(DESIRED)
        if envelope is None:
            return None
        journal = self._installer.journal
        try:
            desired = self.read(envelope)
        except Refused as refused:
            if refused.reason is Reason.WRONG_SIGNATURE:
                self.disown()  # no fault of the release: its DesiredState comes again, signed by the new key
            elif self._installing:
                self._installer.apply(RefusedRelease(failure_of(refused)))
            return None
        if desired.version == journal.desired_version and not (self._installing or self.may_pass):
            return None
        return desired if self.current(desired) else None

    def current(self, desired: DesiredState) -> bool:
        """Whether ``desired`` may start an installation; an expired one is refused in its release's name."""
        expired = self._expiry(desired)
        if expired is None:
            return True
        if self._timeless:
            self._say_timeless(expired)
            return False
        journal = self._installer.journal
        release = self._to_install(desired)
        if desired.version > journal.desired_version and release is not None:
            self._installer.apply(RefusedOffer(desired.version, release.sha256, failure_of(expired)))
        elif self._installing:
            self._installer.apply(RefusedRelease(failure_of(expired)))
        return False

    @property
    def timeless(self) -> bool:
        """Whether a DesiredState waits for the time to be known."""
        return self._timeless

    @property
    def expired(self) -> bool:
        """Whether the installation failed because its DesiredState had expired."""
        journal = self._installer.journal
        return journal.state == "failed" and journal.failure is not None and journal.failure.reason is Reason.EXPIRED

    @property
    def may_pass(self) -> bool:
        """Whether the installation failed for a reason that may be gone later."""
        journal = self._installer.journal
        return journal.state == "failed" and journal.failure is not None and journal.failure.reason in PASSING

    def _expiry(self, desired: DesiredState) -> Refused | None:
        try:
            require_current(desired, self._now)
        except Refused as refused:
            self._timeless = refused.reason is Reason.NO_TIME
            return refused
        self._timeless = self._said_timeless = False
        return None

    def _say_timeless(self, refused: Refused) -> None:
        if not self._said_timeless:
            self._said_timeless = True
            self._installer.apply(Objected(failure_of(refused)))

    @property
    def _installing(self) -> bool:
        return state_of(self._installer.journal) in INSTALLING

    def _to_install(self, desired: DesiredState) -> TargetRef | None:
        journal = self._installer.journal
        here = {slot.release for slot in (journal.committed, journal.playing) if slot is not None}
        return None if desired.release is None or desired.release.sha256 in here else desired.release

    def _stored_expiry(self) -> int:
        held = self._held(self._director_root)
        return 0 if held is None else held.expires_at
