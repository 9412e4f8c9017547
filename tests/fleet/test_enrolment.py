"""Enrolment: a frame gets a row, a key and a certificate that the broker takes for it and for nobody else."""

import json
import stat
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store
from django.core.management import CommandError, call_command

from fleet.authority import ensure_services
from fleet.models import AuditEntry, Frame, FrameCertificate, Household
from fleet.pki import Authority, fingerprint
from fleet.services.enrolment import Context, enrol, frame_ids
from protocol.errors import Refused

CONTEXT = Context("rk3588", "zh", simulated=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ca")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.django_db
def test_a_frame_gets_what_it_needs_to_be_born(tmp_path: Path, authority: Authority) -> None:
    out = tmp_path / "frames"
    assert enrol(["frame-1"], CONTEXT, authority, out, "local").issued == ["frame-1"]
    folder = out / "frame-1"
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "frame.json", "key.pem"]
    assert _mode(folder / "key.pem") == 0o600
    assert _mode(folder) == 0o700
    assert json.loads((folder / "frame.json").read_text()) == {
        "frame_id": "frame-1",
        "locale": "zh",
        "hardware": "rk3588",
        "simulated": True,
    }
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    anchors = Store([x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())])
    verified = PolicyBuilder().store(anchors).build_client_verifier().verify(certificate, [])
    assert verified.subjects == [x509.DNSName("frame-1"), x509.DNSName(f"{certificate.serial_number:x}.frame-1")]
    row = FrameCertificate.objects.get()
    assert (row.frame_id, row.serial_hex, row.revoked_at) == ("frame-1", f"{certificate.serial_number:x}", None)
    assert row.not_after == row.good_until == certificate.not_valid_after_utc
    frame = Frame.objects.get()
    assert (frame.id, frame.household_id, frame.locale, frame.simulated) == ("frame-1", "frame-1", "zh", True)
    assert frame.certificate_fingerprint == fingerprint((folder / "cert.pem").read_bytes())
    assert AuditEntry.objects.get().action == "enrol"


@pytest.mark.django_db
def test_enrolling_again_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    enrol(["a", "b"], CONTEXT, authority, tmp_path, "local")
    before = (tmp_path / "a" / "cert.pem").read_bytes()
    again = enrol(["a", "b", "c"], CONTEXT, authority, tmp_path, "local")
    assert (again.issued, again.kept) == (["c"], ["a", "b"])
    assert (tmp_path / "a" / "cert.pem").read_bytes() == before
    assert Household.objects.count() == 3


@pytest.mark.django_db
def test_a_frame_without_its_files_gets_a_new_certificate(tmp_path: Path, authority: Authority) -> None:
    enrol(["a", "b"], CONTEXT, authority, tmp_path, "local")
    (tmp_path / "a" / "key.pem").unlink()
    (tmp_path / "b" / "cert.pem").write_text("damaged")
    assert enrol(["a", "b"], CONTEXT, authority, tmp_path, "local").issued == ["a", "b"]
    held = {frame.id: frame.certificate_fingerprint for frame in Frame.objects.all()}
    assert held == {name: fingerprint((tmp_path / name / "cert.pem").read_bytes()) for name in ("a", "b")}


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", ["Frame", "bridge", "localhost", "a.b", "../x", "", "x" * 41])
def test_an_id_that_cannot_be_a_frames_enrols_nobody(tmp_path: Path, authority: Authority, wrong: str) -> None:
    with pytest.raises(Refused, match="cannot be a frame's id"):
        enrol(["fine", wrong], CONTEXT, authority, tmp_path / "out", "local")
    assert not Frame.objects.exists()
    assert not (tmp_path / "out").exists()


def test_ids_are_counted_from_one_below_their_prefix() -> None:
    assert frame_ids("hall", 2) == ["hall-0001", "hall-0002"]
    for prefix, count in (("Hall", 1), ("x" * 40, 1), ("hall", 0), ("hall", 100_001)):
        with pytest.raises(Refused):
            frame_ids(prefix, count)


@pytest.mark.django_db
def test_two_hundred_frames_take_a_few_seconds(tmp_path: Path, authority: Authority) -> None:
    since = time.monotonic()
    enrol(frame_ids("frame", 200), CONTEXT, authority, tmp_path, "local")
    assert time.monotonic() - since < 10
    assert Frame.objects.count() == 200


def test_the_services_get_certificates_once_and_new_ones_in_time(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert ensure_services(tmp_path, now) == [tmp_path / "ca", tmp_path / "tls" / "server", tmp_path / "tls" / "bridge"]
    assert ensure_services(tmp_path, now + timedelta(days=300)) == []
    assert ensure_services(tmp_path, now + timedelta(days=340)) == [
        tmp_path / "tls" / "server",
        tmp_path / "tls" / "bridge",
    ]
    assert all(_mode(path) == 0o600 for path in tmp_path.rglob("*.pem"))
    server = x509.load_pem_x509_certificate((tmp_path / "tls" / "server" / "cert.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]


def test_a_new_ca_makes_the_services_certificates_anew(tmp_path: Path) -> None:
    ensure_services(tmp_path)
    (tmp_path / "ca" / "ca.pem").unlink()
    assert len(ensure_services(tmp_path)) == 3


@pytest.mark.django_db
def test_the_commands_enrol_and_write_the_brokers_users(tmp_path: Path) -> None:
    out = StringIO()
    for _ in range(2):
        call_command("enrol_frames", count=2, prefix="wall", locale="zh", out=tmp_path / "frames", stdout=out)
    assert ": 0; enrolled already: " in out.getvalue().splitlines()[1]
    assert (tmp_path / "frames" / "wall-0002" / "cert.pem").exists()
    call_command("broker_users", out=tmp_path / "users.conf", stdout=out)
    assert _mode(tmp_path / "users.conf") == 0o600
    assert '.wall-0002"' in (tmp_path / "users.conf").read_text()
    with pytest.raises(CommandError, match="is no frame id"):
        call_command("enrol_frames", prefix="NO", out=tmp_path / "frames")
