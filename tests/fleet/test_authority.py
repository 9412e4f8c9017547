"""A new authority takes over from the old one: nobody is lost on the way, nor in a drawer."""

import socket
import ssl
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from fleet.authority import current, ensure_services, retire, rotate
from fleet.models import AuditEntry
from fleet.pki import Authority, write_private
from fleet.services.certificates import IssuedCertificate, renew, should_renew
from protocol.errors import Refused
from tests.fleet.births import csr, new_key
from tests.fleet.factories import make_frame


@pytest.fixture
def var(tmp_path: Path, settings: Any) -> Path:
    settings.FRAMEFLEET_VAR = tmp_path
    ensure_services(tmp_path)
    return tmp_path


def _certificates(text: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(text)


def _is_taken(certificate: str, trusted: bytes) -> bool:
    leaf, *intermediates = _certificates(certificate.encode())
    try:
        PolicyBuilder().store(Store(_certificates(trusted))).build_client_verifier().verify(leaf, intermediates)
    except VerificationError:
        return False
    return True


def _can_connect(tls: Path, ca: bytes, tmp: Path) -> bool:
    """Whether a client that trusts ``ca`` alone accepts a server with this folder's certificate, by OpenSSL."""
    trusted = tmp / "trusted.pem"
    trusted.write_bytes(ca)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            with server.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(trusted))
    try:
        with (
            socket.create_connection(listener.getsockname(), 5) as plain,
            client.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            wrapped.send(b"x")
            return True
    except ssl.SSLError:
        return False
    finally:
        thread.join(5)
        listener.close()


def _issue(frame_id: str) -> IssuedCertificate:
    make_frame(frame_id)
    return renew(frame_id, csr(new_key()))


def test_after_a_rotation_both_authorities_are_trusted_and_the_new_one_signs(var: Path) -> None:
    old = Authority.open(var / "ca")
    new = rotate(var)
    assert new.id != old.id
    assert [one.id for one in Authority.all(var / "ca")] == [new.id, old.id]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in var.rglob("*.pem"))
    for folder in (var / "tls" / "server", var / "tls" / "bridge"):
        (leaf, *_) = _certificates((folder / "cert.pem").read_bytes())
        assert leaf.issuer == new.parsed.subject
    with pytest.raises(Refused, match="not finished"):
        rotate(var)


@pytest.mark.django_db
def test_certificates_of_either_authority_are_taken_on_either_side_while_it_lasts(var: Path) -> None:
    old_trust = current().bundle
    before = _issue("frame-1").certificate
    rotate(var)
    after = _issue("frame-2")
    assert _is_taken(before, current().bundle)
    assert _is_taken(after.certificate, current().bundle)
    assert _is_taken(after.certificate, old_trust)  # a broker that has not read the new bundle yet
    assert after.ca.encode() == current().bundle
    retire(var)
    assert not _is_taken(before, current().bundle)
    assert _is_taken(after.certificate, current().bundle)


def test_the_key_of_a_retired_authority_is_gone_wherever_the_first_version_kept_it(var: Path) -> None:
    (key,) = (var / "ca" / "keys").iterdir()
    key.rename(var / "ca" / "key.pem")
    assert retire(var) is None
    assert (var / "ca" / "key.pem").exists()
    rotate(var)
    retire(var)
    assert not (var / "ca" / "key.pem").exists()
    assert current().id != key.stem


def test_a_frame_from_a_drawer_accepts_the_server_after_three_rotations(var: Path, tmp_path: Path) -> None:
    first = Authority.open(var / "ca").bundle
    assert _can_connect(var / "tls" / "server", first, tmp_path)
    for _ in range(3):
        rotate(var)
        assert _can_connect(var / "tls" / "server", first, tmp_path)
        retire(var)
        assert _can_connect(var / "tls" / "server", first, tmp_path)
        assert _can_connect(var / "tls" / "server", Authority.open(var / "ca").bundle, tmp_path)
    stranger = Authority.open(tmp_path / "other")
    assert not _can_connect(var / "tls" / "server", stranger.bundle, tmp_path)


def test_a_cut_in_the_middle_of_a_rotation_leaves_the_old_authority(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, real = Authority.open(var / "ca"), write_private

    def cut(path: Path, data: bytes) -> None:
        if path.name == "ca.pem":
            raise OSError("power cut")
        real(path, data)

    monkeypatch.setattr("fleet.authority.write_private", cut)
    with pytest.raises(OSError, match="power cut"):
        rotate(var)
    monkeypatch.setattr("fleet.authority.write_private", real)
    assert Authority.open(var / "ca").id == old.id
    rotate(var)
    assert len(Authority.all(var / "ca")) == 2


def test_a_cut_right_after_the_switch_is_made_good_by_the_next_start(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.authority.ensure_services", lambda *_: None)
    rotate(var)
    monkeypatch.undo()
    assert ensure_services(var) == [var / "tls" / "server", var / "tls" / "bridge"]


@pytest.mark.django_db
def test_frames_are_asked_to_renew_until_none_holds_the_old_authoritys_certificate(var: Path) -> None:
    def say(*arguments: str) -> str:
        out = StringIO()
        call_command("fleet_ca", *arguments, stdout=out)
        return out.getvalue()

    old = current().id
    _issue("frame-1")
    _issue("frame-2")
    assert f"{old} signs" in say("--status")
    assert say("--rotate").startswith(f"The authority {current().id} signs from now on")
    assert should_renew(["frame-1", "frame-2"], timezone.now()) == {"frame-1", "frame-2"}
    renew("frame-1", csr(new_key()))
    assert should_renew(["frame-1", "frame-2"], timezone.now()) == {"frame-2"}
    assert f"{old} is trusted still" in say("--status")
    assert "frames with its certificate: 1" in say("--status").splitlines()[1]
    with pytest.raises(CommandError, match=f"hold a certificate of {old} only: 1"):
        say("--retire")
    renew("frame-2", csr(new_key()))
    assert "trusted no more" in say("--retire")
    with pytest.raises(CommandError, match="no old authority"):
        say("--retire")
    assert [entry.action for entry in AuditEntry.objects.filter(actor="local").order_by("id")] == [
        "rotate_ca",
        "retire_ca",
    ]


@pytest.mark.django_db
def test_an_authority_is_retired_over_frames_that_hold_its_certificates_only_by_force(var: Path) -> None:
    _issue("frame-1")
    call_command("fleet_ca", "--rotate", stdout=StringIO())
    call_command("fleet_ca", "--retire", "--force", stdout=StringIO())
    assert len(Authority.all(var / "ca")) == 1


def test_the_services_answer_to_the_names_that_frames_know(var: Path) -> None:
    assert ensure_services(var, names=["broker.example", "192.0.2.1"]) == [var / "tls" / "server"]
    assert ensure_services(var, names=["broker.example"]) == []
    assert ensure_services(var) == []
    rotate(var)
    (leaf, *_) = _certificates((var / "tls" / "server" / "cert.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "broker.example" in names.get_values_for_type(x509.DNSName)
    assert "192.0.2.1" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def test_a_ca_of_the_first_version_is_read_and_rotated(var: Path) -> None:
    (key,) = (var / "ca" / "keys").iterdir()
    key.rename(var / "ca" / "key.pem")
    old = Authority.open(var / "ca")
    assert [one.id for one in Authority.all(var / "ca")] == [old.id]
    assert rotate(var).id != old.id
    assert retire(var) == old.id


def test_a_ca_with_another_key_is_refused_with_one_sentence(var: Path, tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "other")
    (var / "ca" / "ca.pem").write_bytes(other.bundle)
    with pytest.raises(ValueError, match="put its own key back"):
        Authority.open(var / "ca")
