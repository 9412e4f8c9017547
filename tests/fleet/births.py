"""Keys and certificate requests, as frames make them."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet.models import Frame
from protocol.birth import ClaimRequest
from tests.fleet.factories import make_frame


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: ec.EllipticCurvePrivateKey, name: str = "whoever") -> str:
    """A request that asks for more than it will get."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bridge")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()


def claim_request(token: str, key: ec.EllipticCurvePrivateKey, hardware: str = "rk3588") -> ClaimRequest:
    return ClaimRequest(claim=token, csr=csr(key), hardware=hardware, locale="zh", agent_version="1.2.3")


def awaited(frame_id: str = "frame-1") -> Frame:
    frame = make_frame(frame_id)
    frame.lifecycle = Frame.Lifecycle.AWAITED
    frame.certificate_fingerprint = ""
    frame.save()
    return frame


def common_name(certificate: x509.Certificate) -> str:
    (found,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found.value)


def days(count: float) -> dt.timedelta:
    return dt.timedelta(days=count)
