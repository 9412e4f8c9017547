"""The frame believes only what both roots vouch for, never something older, and nothing that has expired."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner

from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.director import require_current, verify_desired
from device_agent.trust.image import ImageTrust, NoTrustAnchor, director_root
from protocol import topics
from protocol.codec import encode
from protocol.envelope import Envelope
from protocol.errors import Reason, Refused
from protocol.exchange import Exchange, Subscribe
from protocol.repository import DIRECTOR_ROOT
from protocol.sequences import RetryPolicy, refresh
from tests.device_agent.frame import FRAME
from tests.device_agent.repository import Repository, desired, in_days

ONCE = RetryPolicy(tries=1, timeout_s=1.0)
ROLES = ["base", "lora", "release"]


@pytest.fixture
def repository() -> Repository:
    repository = Repository()
    base = repository.base(b"model" * 100)
    repository.release("portrait", "1.0", [base])
    return repository


@pytest.fixture
def documents(repository: Repository) -> MemoryDocuments:
    return MemoryDocuments(repository.anchors())


def refreshed(documents: MemoryDocuments, repository: Repository) -> tuple[ImageTrust, list[str]]:
    """A whole refresh; returns what is trusted now and which topics were read."""
    trust = ImageTrust(documents)
    exchange = Exchange(refresh(trust, ROLES, ONCE))
    read: list[str] = []
    now = 0.0
    todo = exchange.start(now, connected=True)
    while exchange.done is None:
        command = todo.pop(0) if todo else None
        if isinstance(command, Subscribe):
            read.append(command.topic)
            if payload := repository.retained.get(command.topic):
                todo += exchange.received(command.topic, payload, now)
        elif command is None:
            assert exchange.deadline is not None
            now = exchange.deadline
            todo += exchange.tick(now)
    if exchange.done.error is not None:
        raise exchange.done.error
    return trust, read


def refusal(call: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.detail.endswith(".")
    return caught.value


def refused(documents: MemoryDocuments, repository: Repository) -> Reason:
    return refusal(lambda: refreshed(documents, repository)).reason


def test_a_refresh_knows_every_target_and_its_manifest(documents: MemoryDocuments, repository: Repository) -> None:
    trust, _ = refreshed(documents, repository)
    target = trust.target("base/portrait-1.0.bundle")
    assert target.length == 500
    assert target.manifest.kind == "base_model"
    assert refusal(lambda: trust.target("base/unknown")).reason is Reason.ROLES_DISAGREE
    assert refusal(lambda: trust.target("nowhere/at-all")).reason is Reason.BAD_MESSAGE


def test_a_second_refresh_reads_only_head_and_timestamp(documents: MemoryDocuments, repository: Repository) -> None:
    refreshed(documents, repository)
    trust, read = refreshed(documents, repository)
    assert read == [topics.REPO_HEAD, topics.meta_topic("timestamp", 2)]
    assert trust.target("base/portrait-1.0.bundle").length == 500


def test_roots_are_walked_step_by_step(documents: MemoryDocuments, repository: Repository) -> None:
    old = repository.keys["root"]
    repository.keys["root"] = CryptoSigner.generate_ed25519()
    repository.keys["snapshot"] = CryptoSigner.generate_ed25519()
    repository.sign_root(old)
    repository.sign_root()
    repository.publish()
    _, read = refreshed(documents, repository)
    assert [topic for topic in read if "/root/" in topic] == [topics.meta_topic("root", n) for n in (2, 3)]


def test_a_root_that_the_last_one_does_not_sign_is_refused(documents: MemoryDocuments, repository: Repository) -> None:
    repository.keys["root"] = CryptoSigner.generate_ed25519()
    repository.sign_root()
    repository.publish()
    assert refused(documents, repository) is Reason.WRONG_SIGNATURE
    assert documents.load("root") != repository.documents["root"]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "base", "release"])
def test_a_document_under_another_key_is_refused(documents: MemoryDocuments, repository: Repository, role: str) -> None:
    repository.forged[role] = CryptoSigner.generate_ed25519()
    repository.publish()
    assert refused(documents, repository) is Reason.WRONG_SIGNATURE
    assert documents.load(role) is None


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "lora"])
def test_an_expired_document_is_refused(documents: MemoryDocuments, repository: Repository, role: str) -> None:
    repository.expires[role] = in_days(-1)
    repository.publish()
    assert refused(documents, repository) is Reason.EXPIRED


@pytest.mark.parametrize("chain", ["root", DIRECTOR_ROOT])
def test_an_expired_root_is_refused(documents: MemoryDocuments, repository: Repository, chain: str) -> None:
    repository.expires[chain] = in_days(-1)
    repository.sign_root() if chain == "root" else repository.sign_director_root()
    repository.put_head()
    assert refused(documents, repository) is Reason.EXPIRED


def test_an_older_repository_is_refused(documents: MemoryDocuments, repository: Repository) -> None:
    old = dict(repository.retained)
    repository.publish()
    refreshed(documents, repository)
    repository.retained = old
    assert refused(documents, repository) is Reason.OLD_VERSION


def test_an_older_timestamp_under_the_newest_number_is_refused(
    documents: MemoryDocuments, repository: Repository
) -> None:
    old = repository.retained[topics.meta_topic("timestamp", 2)]
    repository.publish()
    refreshed(documents, repository)
    repository.publish()
    repository.retained[topics.meta_topic("timestamp", 4)] = old
    assert refused(documents, repository) is Reason.OLD_VERSION


def test_a_snapshot_that_forgets_a_role_is_refused(documents: MemoryDocuments, repository: Repository) -> None:
    refreshed(documents, repository)
    repository.versions["base"] -= 2
    repository.publish()
    assert refused(documents, repository) is Reason.OLD_VERSION


def test_a_timestamp_that_never_changes_freezes_nobody_beyond_its_expiry(
    documents: MemoryDocuments, repository: Repository
) -> None:
    refreshed(documents, repository)
    later = ImageTrust(documents, lambda: in_days(31))
    repository.expires.update({chain: in_days(90) for chain in ("root", DIRECTOR_ROOT)})
    repository.sign_root()
    repository.sign_director_root()
    for chain in ("root", DIRECTOR_ROOT):
        later.update_root(chain, repository.documents[chain])
    later.begin()
    later.update("timestamp", repository.documents["timestamp"])
    assert refusal(lambda: later.needed("snapshot")).reason is Reason.EXPIRED


def test_without_the_time_roots_are_walked_and_nothing_else(documents: MemoryDocuments, repository: Repository) -> None:
    repository.sign_root()
    timeless = ImageTrust(documents, lambda: None)
    timeless.update_root("root", repository.documents["root"])
    assert timeless.root_version("root") == 2
    assert refusal(timeless.begin).reason is Reason.NO_TIME


def test_garbage_in_place_of_a_document_is_refused(documents: MemoryDocuments, repository: Repository) -> None:
    repository.retained[topics.meta_topic("targets", 2)] = b"{]"
    assert refused(documents, repository) is Reason.BAD_MESSAGE


def test_a_damaged_stored_document_is_fetched_again(documents: MemoryDocuments, repository: Repository) -> None:
    refreshed(documents, repository)
    documents.save("snapshot", b"damaged")
    trust, read = refreshed(documents, repository)
    assert topics.meta_topic("snapshot", 2) in read
    assert trust.target("base/portrait-1.0.bundle").length == 500


def test_a_role_signs_only_below_its_own_path(documents: MemoryDocuments, repository: Repository) -> None:
    repository.smuggled["lora"] = repository.files.pop("base/portrait-1.0.bundle")
    repository.publish()
    trust, _ = refreshed(documents, repository)
    assert refusal(lambda: trust.target("base/portrait-1.0.bundle")).reason is Reason.ROLES_DISAGREE


def test_a_role_whose_paths_were_narrowed_speaks_for_no_others(
    documents: MemoryDocuments, repository: Repository
) -> None:
    repository.patterns["base"] = ("base/nothing-else",)
    repository.publish()
    trust, _ = refreshed(documents, repository)
    assert refusal(lambda: trust.target("base/portrait-1.0.bundle")).reason is Reason.ROLES_DISAGREE


def test_a_frame_without_its_roots_says_what_to_do(repository: Repository) -> None:
    with pytest.raises(NoTrustAnchor, match=r"director-root\.json"):
        ImageTrust(MemoryDocuments({"root": repository.documents["root"]}))
    with pytest.raises(NoTrustAnchor, match="that can be trusted"):
        ImageTrust(MemoryDocuments({**repository.anchors(), "root": repository.documents["targets"]}))


# --- the director -----------------------------------------------------------------------------------------------------


def test_what_the_director_signed_is_believed(documents: MemoryDocuments, repository: Repository) -> None:
    state = desired(FRAME, 7)
    root = director_root(documents)
    assert verify_desired(repository.envelope(state), root, FRAME, 0) == state
    assert verify_desired(repository.envelope(state), root, FRAME, 7) == state


def test_what_the_director_did_not_sign_so_is_refused(documents: MemoryDocuments, repository: Repository) -> None:
    root = director_root(documents)
    state = desired(FRAME, 7)

    def reason(envelope: bytes, held: int = 0) -> Reason:
        return refusal(lambda: verify_desired(envelope, root, FRAME, held)).reason

    assert reason(repository.envelope(state, CryptoSigner.generate_ed25519())) is Reason.WRONG_SIGNATURE
    assert reason(repository.envelope(state, repository.director_offline)) is Reason.WRONG_SIGNATURE
    assert reason(repository.envelope(state, kind="application/other")) is Reason.BAD_MESSAGE
    assert reason(repository.envelope(desired("frame-2", 7))) is Reason.WRONG_FRAME
    assert reason(repository.envelope(state), held=8) is Reason.OLD_VERSION
    good = msgspec.json.decode(repository.envelope(state), type=Envelope)
    other = msgspec.json.encode(desired(FRAME, 8))
    assert reason(encode(msgspec.structs.replace(good, payload=other))) is Reason.WRONG_SIGNATURE
    assert reason(b"garbage") is Reason.BAD_MESSAGE


def test_one_signature_twice_is_not_two(documents: MemoryDocuments, repository: Repository) -> None:
    root = director_root(documents)
    root.roles["targets"].threshold = 2
    envelope = msgspec.json.decode(repository.envelope(desired(FRAME, 1)), type=Envelope)
    twice = encode(msgspec.structs.replace(envelope, signatures=envelope.signatures * 2))
    assert refusal(lambda: verify_desired(twice, root, FRAME, 0)).reason is Reason.WRONG_SIGNATURE


def test_a_desired_state_expires() -> None:
    state = desired(FRAME, 1)
    expiry = dt.datetime.fromtimestamp(state.expires_at / 1000, dt.UTC)
    require_current(state, lambda: expiry - dt.timedelta(milliseconds=1))
    assert refusal(lambda: require_current(state, lambda: expiry)).reason is Reason.EXPIRED
    assert refusal(lambda: require_current(state, lambda: None)).reason is Reason.NO_TIME
