"""What frames ask for: the time, and their next certificate. Answered at QoS 0; who missed an answer asks again."""

import logging

from fleet.services import certificates
from ota.services.time import signed_time
from protocol.errors import Refused
from protocol.limits import MAX_TEXT
from protocol.messages import AnyAnswer, AnyRequest, CertificateAnswer, RefusedAnswer, TimeAnswer, TimeRequest

log = logging.getLogger(__name__)


def answer(frame_id: str, request: AnyRequest) -> AnyAnswer:
    """The answer to one request of the frame whose topic it came on. Raises what the database raises."""
    if isinstance(request, TimeRequest):
        return TimeAnswer(nonce=request.nonce, time=signed_time(request.nonce))
    try:
        issued = certificates.renew_connected(frame_id, request.csr)
    except Refused as refused:
        log.warning("No certificate for %s: %s", frame_id, refused.detail)
        return RefusedAnswer(nonce=request.nonce, detail=refused.detail[:MAX_TEXT])
    log.info("A new certificate for %s, serial %s", frame_id, issued.serial_hex)
    return CertificateAnswer(nonce=request.nonce, certificate=issued.certificate, ca=issued.ca)
