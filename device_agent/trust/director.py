"""Whether a DesiredState or a time comes from the director: a DSSE envelope under the keys of the director's root."""

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature
from tuf.api.metadata import Root

from device_agent.trust.time import Now, required, utc_now
from protocol.codec import decode
from protocol.envelope import DESIRED_STATE_TYPE, SIGNED_TIME_TYPE, Envelope, signed_bytes
from protocol.errors import Reason, Refused
from protocol.messages import DesiredState, SignedTime

ROLE = "targets"
"""The role of the director's root whose keys sign DesiredStates and times."""


def verify_desired(envelope: bytes, root: Root, frame_id: str, held_version: int) -> DesiredState:
    """The DesiredState in ``envelope``; one of the version already held is returned like a newer one.

    Raises Refused: BAD_MESSAGE, WRONG_SIGNATURE, WRONG_FRAME or OLD_VERSION. Expiry is ``require_current``'s business.
    """
    outer = decode(envelope, Envelope)
    if outer.payload_type != DESIRED_STATE_TYPE:
        raise Refused(Reason.BAD_MESSAGE, f"The director's message is no DesiredState but {outer.payload_type!r}.")
    _require_signatures(outer, root, "DesiredState")
    desired = decode(outer.payload, DesiredState)
    if desired.frame_id != frame_id:
        raise Refused(
            Reason.WRONG_FRAME,
            f"The DesiredState is for frame {desired.frame_id}; this is {frame_id}: send it there.",
        )
    if desired.version < held_version:
        raise Refused(
            Reason.OLD_VERSION,
            f"DesiredState {desired.version} is older than {held_version}, which this frame holds: publish the newest.",
        )
    return desired


def require_current(desired: DesiredState, now: Now = utc_now) -> None:
    """Raises Refused(EXPIRED) when ``desired`` may not start an installation any more, NO_TIME when nobody can say."""
    if desired.expires_at <= required(now).timestamp() * 1000:
        raise Refused(
            Reason.EXPIRED, f"DesiredState {desired.version} has expired: sign it anew, or check the frame's clock."
        )


def verify_time(envelope: Envelope, root: Root, nonce: str) -> int:
    """What time it was, in ms since 1970, when the director saw ``nonce``. The root's own expiry cannot be looked at by
    whoever asks for the time. Raises Refused: BAD_MESSAGE, WRONG_SIGNATURE, or OLD_VERSION for another nonce."""
    if envelope.payload_type != SIGNED_TIME_TYPE:
        raise Refused(Reason.BAD_MESSAGE, f"The director's answer is no time but {envelope.payload_type!r}.")
    _require_signatures(envelope, root, "time")
    signed = decode(envelope.payload, SignedTime)
    if signed.nonce != nonce:
        raise Refused(Reason.OLD_VERSION, "The signed time answers another question than this frame's: a replay.")
    return signed.at


def _require_signatures(envelope: Envelope, root: Root, what: str) -> None:
    role = root.roles[ROLE]
    covered = signed_bytes(envelope.payload_type, envelope.payload)
    good: set[str] = set()
    for signature in envelope.signatures:
        key = root.keys.get(signature.keyid)
        if key is None or signature.keyid not in role.keyids:
            continue
        try:
            key.verify_signature(Signature(signature.keyid, signature.sig.hex()), covered)
        except (UnverifiedSignatureError, VerificationError):
            continue
        good.add(signature.keyid)
    if len(good) < role.threshold:
        raise Refused(
            Reason.WRONG_SIGNATURE,
            f"The {what} carries {len(good)} of {role.threshold} signatures by the director this frame trusts.",
        )
