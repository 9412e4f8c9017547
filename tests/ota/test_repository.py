"""First documents: accepted as framectl makes them, refused with one sentence that says what is wrong."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient._internal.trusted_metadata_set import EnvelopeType, TrustedMetadataSet

from ota import keys, publication, repository
from ota.models import RetainedObject, TufDocument
from protocol import topics
from protocol.errors import Reason, Refused
from tests.ota.offline import Json, Offline, plain, signer
from tests.ota.world import publish_all

pytestmark = pytest.mark.django_db


def refused(given: Json) -> Refused:
    with pytest.raises(Refused) as caught:
        repository.accept_first(given)
    assert caught.value.detail.endswith(".")
    assert not repository.is_set_up()
    assert not RetainedObject.objects.exists()
    return caught.value


def test_a_tuf_client_trusts_what_comes_out() -> None:
    documents = {role: one.wire for role, one in repository.accept_first(Offline().first()).items()}

    trusted = TrustedMetadataSet(documents["root"], EnvelopeType.METADATA)
    trusted.update_timestamp(documents["timestamp"])
    trusted.update_snapshot(documents["snapshot"])
    trusted.update_targets(documents["targets"])
    for role in ("base", "lora", "agent", "release"):
        trusted.update_delegated_targets(documents[role], role, "targets")


def _unnamed(root: Root) -> None:
    root.roles["snapshot"].keyids = ["f" * 64]


def _two_of_one(root: Root) -> None:
    root.roles["timestamp"].threshold = 2


@pytest.mark.parametrize("spoil", [_unnamed, _two_of_one])
def test_a_root_under_which_the_server_could_sign_nothing_is_refused(spoil: Callable[[Root], None]) -> None:
    offline = Offline()
    given = offline.first()
    root = Metadata.from_dict(given["root"])
    spoil(root.signed)
    root.sign(offline.signers["root"])
    assert refused({**given, "root": plain(root)}).reason is Reason.WRONG_IDENTITY


def test_one_key_counts_once_however_it_is_spelled() -> None:
    offline = Offline()
    given = offline.first()
    root = Metadata.from_dict(given["root"])
    mine = offline.signers["root"].public_key
    capitals = {**mine.to_dict(), "keyval": {"public": mine.keyval["public"].upper()}}
    root.signed.add_key(Key.from_dict("f" * 64, capitals), "root")
    root.signed.roles["root"].threshold = 2
    root.signatures.clear()
    signature = root.sign(offline.signers["root"])
    root.signatures["f" * 64] = Signature("f" * 64, signature.signature)
    assert "names one key twice for root" in refused({**given, "root": plain(root)}).detail


def test_everything_is_queued_for_the_broker_the_head_last() -> None:
    repository.accept_first(Offline().first())
    sent = [one.topic for one in publish_all()]
    assert sent[-1] == topics.REPO_HEAD
    roles = ("root", "director-root", "targets", "base", "lora", "agent", "release", "snapshot", "timestamp")
    assert set(sent[:-1]) == {topics.meta_topic(role, 1) for role in roles}


def test_the_same_documents_again_are_harmless_and_others_are_refused() -> None:
    first = Offline().first()
    repository.accept_first(first)
    before = TufDocument.objects.count()
    repository.accept_first(first)
    assert TufDocument.objects.count() == before
    with pytest.raises(Refused, match="set up already"):
        repository.accept_first(Offline().first())


@pytest.mark.parametrize("role", ["root", "director-root", "targets", "base", "lora", "agent", "release"])
def test_a_wrong_signature_names_the_role(role: str) -> None:
    given = Offline().first()
    given[role]["signatures"][0]["sig"] = "00" * 64
    error = refused(given)
    assert error.reason is Reason.WRONG_SIGNATURE
    assert f"The {role} document has 0 of 1 signatures" in error.detail


def test_a_root_signed_by_too_few_of_its_keys_is_refused() -> None:
    folder = Offline()
    folder.first()
    root = folder.documents["root"]
    root.signed.add_key(signer().public_key, "root")
    root.signed.roles["root"].threshold = 2
    folder.sign("root", root)
    assert (
        "The root document has 1 of 2 signatures: missing "
        in refused({role: plain(one) for role, one in folder.documents.items()}).detail
    )


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "director"])
def test_roots_that_name_other_online_keys_are_refused(role: str) -> None:
    online = {name: keys.online_key(name).public for name in keys.ROLES} | {role: signer().public_key}
    error = refused(Offline().first(online))
    assert error.reason is Reason.WRONG_IDENTITY
    assert "GET online-keys/" in error.detail


def test_a_missing_document_and_an_unexpected_one_are_named() -> None:
    given = Offline().first()
    del given["lora"]
    assert "lora missing" in refused(given).detail
    assert "snapshot not expected" in refused({**Offline().first(), "snapshot": {}}).detail


@pytest.mark.parametrize("odd", [None, [], {}, {"signed": {}}, {"signed": {"_type": "root"}, "signatures": []}, "x"])
def test_what_is_no_document_is_refused(odd: object) -> None:
    assert "targets document" in refused({**Offline().first(), "targets": odd}).detail


def test_a_document_of_another_type_is_refused() -> None:
    given = Offline().first()
    assert "is of type root" in refused({**given, "targets": given["root"]}).detail


def test_documents_about_to_expire_are_refused() -> None:
    error = refused(Offline(life=dt.timedelta(hours=20)).first())
    assert error.reason is Reason.EXPIRED


def resigned(role: str, change: Any) -> Json:
    folder = Offline()
    folder.first()
    change(folder.documents[role].signed)
    folder.sign(role, folder.documents[role])
    return {name: plain(one) for name, one in folder.documents.items()}


def test_delegations_other_than_the_protocols_are_refused() -> None:
    def widen(targets: Any) -> None:
        targets.delegations.roles["lora"].paths = ["*"]

    def loosen(targets: Any) -> None:
        targets.delegations.roles["lora"].terminating = False

    for change in (widen, loosen):
        assert "must delegate exactly base, lora, agent, release" in refused(resigned("targets", change)).detail


def test_targets_and_first_delegated_documents_list_no_files() -> None:
    def add(targets: Any) -> None:
        targets.targets["base/x"] = TargetFile(1, {"sha256": "0" * 64}, "base/x")

    assert "lists files itself" in refused(resigned("targets", add)).detail
    assert "lists files already" in refused(resigned("base", add)).detail


def test_online_documents_are_renewed_well_before_they_expire() -> None:
    repository.accept_first(Offline().first())
    now = timezone.now()
    assert not repository.refresh_online(now)

    assert repository.refresh_online(now + dt.timedelta(hours=13))
    versions = {role: one.version for role, one in repository.newest_documents().items()}
    assert (versions["timestamp"], versions["snapshot"]) == (2, 1)

    assert repository.refresh_online(now + dt.timedelta(days=5))
    newest = repository.newest_documents()
    assert (newest["timestamp"].version, newest["snapshot"].version) == (3, 2)
    assert newest["snapshot"].expires_at > now + dt.timedelta(days=11)


def test_old_online_documents_are_taken_off_the_broker() -> None:
    repository.accept_first(Offline().first())
    start = timezone.now()
    for day in range(1, 12):
        repository.refresh_online(start + dt.timedelta(days=day))
    sent = {one.topic: one.payload for one in publish_all()}
    assert sent[topics.meta_topic("timestamp", 1)] == b""
    assert sent[topics.meta_topic("timestamp", 12)] != b""
    kept = [topic for topic, payload in sent.items() if "/timestamp/" in topic and payload]
    assert len(kept) == repository.KEPT_ONLINE
    assert sent[topics.meta_topic("root", 1)] != b""


def test_nothing_is_renewed_before_there_is_a_repository() -> None:
    assert not repository.refresh_online(timezone.now())
    assert publication.pending(10) == []


def test_online_keys_are_made_once_and_only_for_the_owner(var: Path) -> None:
    before = {role: keys.online_key(role).public.keyid for role in keys.ROLES}
    assert keys.make_missing() == []
    for role in keys.ROLES:
        path = keys.folder() / f"{role}.pem"
        assert path.stat().st_mode & 0o777 == 0o600
        assert keys.public_keys()[role]["keyid"] == before[role]


def test_a_key_appears_whole_or_not_at_all(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is ended while it writes; the next one makes what is missing."""
    settings.FRAMEFLEET_VAR = tmp_path / "elsewhere"

    def ended(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", ended)
    with pytest.raises(KeyboardInterrupt):
        keys.make_missing()
    assert not list(keys.folder().iterdir())
    monkeypatch.undo()
    settings.FRAMEFLEET_VAR = tmp_path / "elsewhere"
    assert keys.make_missing() == list(keys.ROLES)
    assert keys.online_key("director").public.keyid


def test_a_missing_online_key_is_said_in_one_sentence(settings: Any, tmp_path: Path) -> None:
    settings.FRAMEFLEET_VAR = tmp_path / "elsewhere"
    with pytest.raises(ImproperlyConfigured, match=r"run manage\.py online_keys"):
        keys.online_key("director")


def test_stored_documents_are_the_bytes_that_were_signed() -> None:
    folder = Offline()
    repository.accept_first(folder.first())
    for role, document in folder.documents.items():
        stored = Metadata.from_bytes(bytes(TufDocument.objects.get(role=role).document))
        assert stored.signed == document.signed
