"""Certificates for keys that were made on frames: what is asked of the key, how many are good, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from django.utils import timezone

from fleet.models import AuditEntry, BrokerUsers, Frame, FrameCertificate
from fleet.pki import FRAME_LIFE
from fleet.services import certificates
from fleet.services.certificates import good_certificates, read_csr, renew, revoke, should_renew
from protocol.errors import Refused
from tests.fleet.births import common_name, csr, days, new_key
from tests.fleet.factories import make_frame

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _revision() -> int:
    row = BrokerUsers.objects.first()
    return row.revision if row else 0


def _good(now: datetime) -> list[str]:
    return list(good_certificates(now).order_by("issued_at").values_list("serial_hex", flat=True))


def _request(key: CertificateIssuerPrivateKeyTypes, *, digest: hashes.HashAlgorithm | None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


@pytest.mark.django_db
def test_a_certificate_says_who_the_frame_is_whatever_the_request_says() -> None:
    make_frame()
    key, now = new_key(), timezone.now()
    issued = renew("frame-1", csr(key, "frame-2"), now=now)
    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    assert certificate.public_key() == key.public_key()
    assert common_name(certificate) == "frame-1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["frame-1", f"{issued.serial_hex}.frame-1"]
    assert len(list(names)) == 2
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    anchors = Store(x509.load_pem_x509_certificates(issued.ca.encode()))
    assert PolicyBuilder().store(anchors).build_client_verifier().verify(certificate, []).subjects
    row = FrameCertificate.objects.get()
    assert (row.serial_hex, bytes(row.der)) == (
        f"{certificate.serial_number:x}",
        certificate.public_bytes(serialization.Encoding.DER),
    )
    assert Frame.objects.get().certificate_fingerprint == row.fingerprint
    assert _revision() == 1


def test_only_a_p256_key_that_signs_its_own_request_is_taken() -> None:
    read_csr(csr(new_key()))
    good = csr(new_key())
    for other in (
        _request(ec.generate_private_key(ec.SECP384R1()), digest=hashes.SHA256()),
        _request(rsa.generate_private_key(65537, 2048), digest=hashes.SHA256()),
        _request(ed25519.Ed25519PrivateKey.generate(), digest=None),
    ):
        with pytest.raises(Refused, match="EC P-256"):
            read_csr(other)
    der = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(Refused, match="not signed by its own key"):
        read_csr(forged)
    for nonsense in ("", "nonsense", good[:200], good.replace("M", "\N{SNOWMAN}"), "\ud800"):
        with pytest.raises(Refused, match="no certificate request"):
            read_csr(nonsense)
    with pytest.raises(Refused, match="more than"):
        read_csr(good + " " * 20_000)


@pytest.mark.django_db
def test_the_same_request_again_gets_the_same_certificate() -> None:
    make_frame()
    key = new_key()
    first = renew("frame-1", csr(key), now=NOW)
    again = renew("frame-1", csr(key), now=NOW + days(1))
    assert again == first
    assert FrameCertificate.objects.count() == 1
    late = renew("frame-1", csr(key), now=NOW + days(720))
    assert late.serial_hex != first.serial_hex


@pytest.mark.django_db
def test_a_predecessor_stays_good_for_a_week_and_two_are_good_at_most() -> None:
    make_frame()
    first, second, third = (renew("frame-1", csr(new_key()), now=NOW + days(day)).serial_hex for day in (0, 2, 3))
    assert _good(NOW + days(3)) == [second, third]
    assert first not in _good(NOW + days(3))
    assert _good(NOW + days(9.9)) == [second, third]
    assert _good(NOW + days(10.1)) == [third]
    assert _good(NOW + days(800)) == []


@pytest.mark.django_db
def test_a_key_belongs_to_one_frame_only() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    key = new_key()
    renew("frame-1", csr(key))
    with pytest.raises(Refused, match="Another frame has this key"):
        renew("frame-2", csr(key))


@pytest.mark.django_db
def test_revoked_certificates_are_good_no_more_and_their_keys_never_again() -> None:
    make_frame()
    stolen, spare = new_key(), new_key()
    renew("frame-1", csr(stolen))
    kept = renew("frame-1", csr(spare))
    before = _revision()
    serial = FrameCertificate.objects.order_by("issued_at", "id")[0].serial_hex
    assert revoke("frame-1", "rosa", "stolen", serial_hex=serial) == 1
    assert _good(timezone.now()) == [kept.serial_hex]
    assert revoke("frame-1", "rosa", "stolen too") == 1
    assert _good(timezone.now()) == []
    assert _revision() == before + 2
    with pytest.raises(Refused, match="revoked"):
        renew("frame-1", csr(stolen))
    assert AuditEntry.objects.filter(action="revoke_certificates", actor="rosa", subject="frame-1").count() == 2


@pytest.mark.django_db
def test_a_frame_out_of_service_gets_none() -> None:
    with pytest.raises(Refused, match="not in service"):
        renew("nobody", csr(new_key()))
    frame = make_frame()
    renew("frame-1", csr(new_key()))
    for state in (Frame.Lifecycle.RETIRED, Frame.Lifecycle.AWAITED):
        Frame.objects.filter(pk=frame.pk).update(lifecycle=state)
        assert not good_certificates().exists()
        with pytest.raises(Refused, match="not in service"):
            renew("frame-1", csr(new_key()))


@pytest.mark.django_db
def test_a_frame_that_asks_without_end_gets_a_few_a_day_and_fills_no_table() -> None:
    make_frame()
    for _ in range(certificates.A_DAY):
        renew("frame-1", csr(new_key()), now=NOW)
    with pytest.raises(Refused, match="at most 4 certificates a day"):
        renew("frame-1", csr(new_key()), now=NOW + timedelta(hours=23))
    for day in range(1, 5):
        for _ in range(certificates.A_DAY):
            renew("frame-1", csr(new_key()), now=NOW + days(day * 1.1))
    assert len(_good(NOW + days(4.5))) == certificates.GOOD_AT_ONCE
    # A broker that knows the authority alone has to hear of all that it would still let in.
    assert FrameCertificate.objects.count() == 5 * certificates.A_DAY
    renew("frame-1", csr(new_key()), now=NOW + FRAME_LIFE + days(4.6))
    assert FrameCertificate.objects.count() == 1 + certificates.KEPT


@pytest.mark.django_db
def test_who_used_up_a_days_certificates_with_a_stolen_key_keeps_nobody_waiting() -> None:
    make_frame()
    for _ in range(certificates.A_DAY):
        renew("frame-1", csr(new_key()), now=NOW)
    revoke("frame-1", "rosa", "stolen", now=NOW)
    renew("frame-1", csr(new_key()), now=NOW + timedelta(hours=1))


@pytest.mark.django_db
def test_a_frame_near_its_certificates_end_should_ask_for_the_next() -> None:
    for name in ("frame-1", "frame-2"):
        make_frame(name)
    renew("frame-1", csr(new_key()), now=NOW)
    renew("frame-2", csr(new_key()), now=NOW + days(300))
    both = ["frame-1", "frame-2", "nobody"]
    assert should_renew(both, NOW + days(600)) == set()
    assert should_renew(both, NOW + days(701)) == {"frame-1"}
    renew("frame-1", csr(new_key()), now=NOW + days(701))
    assert should_renew(both, NOW + days(701)) == set()
