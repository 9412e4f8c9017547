"""Whoever has the broker, and any of the keys that a server holds, makes no frame run what was not signed offline."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from device_agent.trust.time import utc_now
from protocol import topics
from protocol.chunks import sha256_hex
from protocol.limits import MAX_DOCUMENT
from protocol.messages import TargetRef
from protocol.repository import DIRECTOR_ROOT, ArtifactManifest
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.repository import FAST_FORWARD, ONLINE, Published, Repository, desired, in_days

OFFLINE = ("targets", "base", "lora", "release")
SAFE = b"model" * 100
EVIL = b"malice" * 100


@dataclass
class Home:
    """A frame that runs a good release, the repository it came from, and what the frame may be fed with."""

    repository: Repository
    frame: Frame
    base: TargetRef
    good: Published
    version: int = 1

    def offer(self, by: Repository, release: Published, **changes: object) -> None:
        """The DesiredState for ``release``, signed by whoever plays the director."""
        self.version += 1
        self.frame.retained = by.retained
        self.frame.give(by.envelope(desired(FRAME, self.version, release, **changes)))
        self.frame.wait(600)

    def unharmed(self) -> list[str]:
        """Nothing was tried, the good release plays on; returns why the rest was refused."""
        playing = self.frame.core.playing
        assert playing is not None
        assert playing.release == self.good.release.sha256
        assert len(self.frame.trial.tried) == 1
        assert not self.frame.store.has(sha256_hex(EVIL))
        return sorted({event.kind for event in self.frame.health})


def honest() -> tuple[Repository, TargetRef, Published]:
    repository = Repository()
    base = repository.base(SAFE)
    return repository, base, repository.release("portrait", "1.0", [base])


def settle(repository: Repository, base: TargetRef, good: Published) -> Home:
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    home = Home(repository, frame, base, good, version=0)
    home.offer(repository, good)
    assert home.unharmed() == []
    return home


@pytest.fixture
def home() -> Home:
    return settle(*honest())


def evil_release(by: Repository) -> Published:
    """Somebody's own base model and adapter in a release of his own, in documents that name it, signed as far as he
    can."""
    base = by.base(EVIL, "6.6")
    return by.release("portrait", "6.6", [base, by.adapter(EVIL + b"!", base, "malice-6.6")])


# --- keys that were stolen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ONLINE)
def test_one_stolen_online_key_installs_nothing(home: Home, key: str) -> None:
    thief = home.repository.stolen(key)
    home.offer(thief, evil_release(thief))
    assert home.unharmed() == ["wrong_signature"]


def test_all_online_keys_and_the_broker_install_nothing(home: Home) -> None:
    thief = home.repository.stolen(*ONLINE)
    home.offer(thief, evil_release(thief))
    assert home.unharmed() == ["wrong_signature"]


def test_a_director_alone_installs_nothing_that_the_image_repository_does_not_name(home: Home) -> None:
    thief = home.repository.stolen(*ONLINE)
    target = thief.base(EVIL, "6.6")
    release = thief.add("release/portrait-6.6.json", b"{}", ArtifactManifest(kind="release"))
    thief.sign_online()
    home.offer(thief, Published(release, [target]))
    assert home.unharmed() == ["roles_disagree"]


def test_a_director_cannot_give_a_signed_name_other_bytes(home: Home) -> None:
    thief = home.repository.stolen(*ONLINE)
    forged = TargetRef(home.base.path, len(EVIL), sha256_hex(EVIL))
    thief.retained[topics.chunk_topic(forged.sha256)] = EVIL
    home.offer(thief, Published(home.good.release, [forged]))
    home.offer(thief, Published(TargetRef(home.good.release.path, len(EVIL), sha256_hex(EVIL)), [forged]))
    assert home.unharmed() == ["roles_disagree"]


@pytest.mark.parametrize("role", OFFLINE)
def test_every_offline_role_must_be_signed_offline(home: Home, role: str) -> None:
    """The other offline keys sign, one does not: one honest signer is enough to stop it."""
    thief = home.repository.stolen(*ONLINE, *(other for other in OFFLINE if other != role))
    home.offer(thief, evil_release(thief))
    assert home.unharmed() == ["wrong_signature"]


@pytest.mark.parametrize("mine", ["lora", "agent"])
def test_the_key_of_one_kind_of_file_signs_no_other_kind(home: Home, mine: str) -> None:
    other = home.repository.release("portrait", "1.1", [home.base])
    thief = home.repository.stolen(*ONLINE, mine)
    honest_files = dict(thief.files)
    outside = thief.base(EVIL, "6.6")
    inside = thief.add(f"{mine}/portrait-6.6.bundle", EVIL, ArtifactManifest(kind="base_model"))
    added = {path: file for path, file in thief.files.items() if path not in honest_files}
    thief.files = {path: added[path] for path in added if path.startswith(mine)}
    thief.smuggled[mine] = added[outside.path]
    thief.put(mine)
    home.offer(thief, Published(other.release, [outside]))
    home.offer(thief, Published(other.release, [inside]))
    assert home.unharmed() == ["roles_disagree"]
    assert len(home.frame.health) == 2


def test_the_key_of_one_role_is_not_another_ones(home: Home) -> None:
    thief = home.repository.stolen(*ONLINE)
    for role in OFFLINE:
        thief.forged[role] = thief.keys["snapshot"]
    home.offer(thief, evil_release(thief))
    assert home.unharmed() == ["wrong_signature"]


def test_a_snapshot_is_no_timestamp_even_under_one_key() -> None:
    repository = Repository()
    shared = repository.keys["snapshot"] = repository.keys["timestamp"]
    repository.sign_root()
    repository.publish()
    assert repository.signers("snapshot") == [shared]
    base = repository.base(SAFE)
    home = settle(repository, base, repository.release("portrait", "1.0", [base]))
    next_version = repository.next("timestamp")
    snapshot: Metadata[Any] = Metadata.from_bytes(repository.documents["snapshot"])
    snapshot.signed.version = next_version
    snapshot.sign(shared)
    repository.retained[topics.meta_topic("timestamp", next_version)] = snapshot.to_bytes()
    repository.put_head()
    home.offer(repository, Published(TargetRef("release/other.json", 2, sha256_hex(b"{}")), [base]))
    assert home.unharmed() == ["bad_message"]


# --- thresholds and revocation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["base", "targets", "release", "timestamp"])
def test_fewer_signatures_than_the_threshold_install_nothing(role: str) -> None:
    repository = Repository()
    repository.cosigners[role] = [CryptoSigner.generate_ed25519() for _ in range(2)]
    repository.thresholds[role] = 2
    repository.sign_root()
    repository.publish()
    base = repository.base(SAFE)
    home = settle(repository, base, repository.release("portrait", "1.0", [base]))
    alone = copy.copy(repository)
    alone.forged = {role: repository.keys[role]}  # one of three, while two must
    home.offer(alone, evil_release(alone))
    assert home.unharmed() == ["wrong_signature"]


@pytest.mark.parametrize("role", ["base", "targets", "snapshot", "timestamp"])
def test_a_revoked_key_installs_nothing(home: Home, role: str) -> None:
    repository = home.repository
    old = copy.copy(repository.keys[role])
    repository.rotate(role)
    repository.publish()
    repository.forged[role] = old
    home.offer(repository, evil_release(repository))
    assert home.unharmed() == ["wrong_signature"]
    del repository.forged[role]
    repository.publish()
    repository.files.clear()
    home.offer(repository, repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")]))
    assert home.frame.reports[-1].state == "committed"


def test_a_directors_revoked_key_sends_a_frame_nowhere(home: Home) -> None:
    repository = home.repository
    old = repository.director
    other = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    repository.rotate_director()
    # The root that revokes it is found because something was not signed by the keys that are known.
    home.offer(repository, home.good)
    assert home.frame.documents.load(DIRECTOR_ROOT) == repository.documents[DIRECTOR_ROOT]
    home.frame.give(repository.envelope(desired(FRAME, 99, other), signer=old))
    home.frame.wait(600)
    assert home.unharmed() == ["wrong_signature"]


def test_a_directors_key_that_turns_out_to_be_revoked_on_the_way_installs_nothing(home: Home) -> None:
    """The frame believes the key when the word comes in, and finds the root that revokes it while it carries it out."""
    repository = home.repository
    old = repository.director
    other = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    repository.rotate_director()
    home.frame.give(repository.envelope(desired(FRAME, 99, other), signer=old))
    home.frame.wait(600)
    assert home.frame.documents.load(DIRECTOR_ROOT) == repository.documents[DIRECTOR_ROOT]
    assert home.unharmed() == []
    assert home.frame.core.journal.desired_version == 0, "nor does its version bind the frame"
    home.offer(repository, other)
    assert home.frame.reports[-1].state == "committed"


def test_a_thief_of_the_directors_key_locks_no_frame_out(home: Home) -> None:
    """The highest version there is binds a frame only as long as the key that signed it."""
    repository = home.repository
    home.frame.give(repository.envelope(desired(FRAME, 2**53, home.good)))
    home.offer(repository, home.good)
    assert home.frame.health[-1].kind == "old_version"
    repository.rotate_director()
    newer = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    home.offer(repository, newer)
    assert home.frame.reports[-1].state == "committed"
    assert home.frame.reports[-1].desired_version == home.version
    assert home.frame.core.playing is not None
    assert home.frame.core.playing.release == newer.release.sha256


def test_an_installation_waits_for_its_word_under_the_directors_new_key(home: Home) -> None:
    """A director's key is replaced, and the frame restarts, while a release is on its way: not the release's fault."""
    repository = home.repository
    newer = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    whole = dict(repository.retained)
    repository.retained = {topic: data for topic, data in whole.items() if not topic.startswith("repo/chunk")}
    home.frame.retained = repository.retained
    home.frame.give(repository.envelope(desired(FRAME, 2, newer)))
    assert home.frame.core.journal.state == "downloading"
    repository.retained = whole
    repository.rotate_director()
    home.frame.documents.save(DIRECTOR_ROOT, repository.documents[DIRECTOR_ROOT])
    home.frame.boot()
    home.frame.connect()
    home.frame.wait(60)
    assert home.frame.core.journal.failure is None
    home.offer(repository, newer)
    assert home.frame.reports[-1].state == "committed"


# --- time and versions ------------------------------------------------------------------------------------------------


def test_a_repository_that_stands_still_installs_nothing_once_it_has_expired(home: Home) -> None:
    release = home.repository.release("portrait", "2.0", [home.repository.base(EVIL, "2.0")])
    home.frame.security_now = lambda: in_days(31)
    home.offer(home.repository, release, expires_at=int(in_days(60).timestamp() * 1000))
    assert home.unharmed() == ["expired"]
    home.frame.security_now = utc_now
    home.frame.wait(8 * 3_600)
    assert home.frame.reports[-1].state == "committed"


def test_an_older_state_of_the_whole_repository_installs_nothing(home: Home) -> None:
    repository = home.repository
    old = copy.deepcopy(repository.retained)
    newer = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    home.offer(repository, newer)
    home.good = newer
    home.frame.trial.tried.pop()
    replay = copy.copy(repository)
    replay.retained = old
    home.offer(replay, Published(TargetRef("release/portrait-1.0.json", 2, sha256_hex(b"{}")), [home.base]))
    assert home.unharmed() == ["old_version"]


@pytest.mark.parametrize("role", ["targets", "base", "release"])
def test_an_older_document_of_one_role_is_no_newer_one(home: Home, role: str) -> None:
    """Online keys can name any version, but not make an old document a new one, nor go back behind what was seen."""
    repository = home.repository
    before = repository.versions[role]
    document = repository.documents[role]
    withdrawn = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    home.offer(repository, withdrawn)
    home.good = withdrawn
    home.frame.trial.tried.pop()
    thief = repository.stolen(*ONLINE)
    thief.versions[role] = before
    thief.sign_online()
    home.offer(thief, evil_release_named(thief))
    thief = repository.stolen(*ONLINE)
    thief.versions["snapshot"] += 1
    thief.versions["timestamp"] += 1
    thief.versions[role] += 1
    thief.retained[topics.meta_topic(role, thief.versions[role])] = document
    thief.sign_online()
    home.offer(thief, evil_release_named(thief))
    assert home.unharmed() == ["old_version"]


def evil_release_named(by: Repository) -> Published:
    """Names files that nobody has to look for: the refusal comes before."""
    target = TargetRef("base/portrait-6.6.bundle", len(EVIL), sha256_hex(EVIL))
    return Published(TargetRef("release/portrait-6.6.json", 2, sha256_hex(b"{}")), [target])


def test_documents_of_two_states_of_the_repository_do_not_mix(home: Home) -> None:
    repository = home.repository
    first = repository.documents["base"]
    repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    mixed = copy.copy(repository)
    mixed.retained = {**repository.retained, topics.meta_topic("base", repository.versions["base"]): first}
    home.offer(mixed, evil_release_named(mixed))
    assert home.unharmed() == ["old_version"]


def test_a_fast_forward_is_survived_and_cured_by_new_online_keys(home: Home) -> None:
    repository = home.repository
    thief = repository.stolen(*ONLINE)
    thief.versions["snapshot"] = thief.versions["timestamp"] = FAST_FORWARD
    thief.sign_online()
    home.offer(thief, evil_release_named(thief))
    assert home.unharmed() == ["roles_disagree"]
    # The thief is gone, but the frame has seen his versions: nothing honest is newer.
    newer = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    home.offer(repository, newer)
    assert home.unharmed() == ["old_version", "roles_disagree"]
    repository.rotate("snapshot", "timestamp")
    repository.publish()
    home.offer(repository, newer)
    assert (home.frame.reports[-1].state, home.frame.reports[-1].release) == ("committed", newer.release.sha256)


def test_a_snapshot_key_alone_that_was_changed_cures_a_fast_forward_of_targets(home: Home) -> None:
    repository = home.repository
    thief = repository.stolen(*ONLINE)
    thief.versions["agent"] = FAST_FORWARD
    thief.sign_online()
    home.offer(thief, evil_release_named(thief))
    newer = repository.release("portrait", "2.0", [repository.base(SAFE * 2, "2.0")])
    repository.versions["timestamp"] += 2
    repository.rotate("snapshot")
    repository.publish()
    home.offer(repository, newer)
    assert (home.frame.reports[-1].state, home.frame.reports[-1].release) == ("committed", newer.release.sha256)


# --- what is not even a document --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "base"])
def test_a_document_without_end_is_not_read(home: Home, role: str) -> None:
    repository = home.repository
    release = repository.release("portrait", "2.0", [repository.base(EVIL, "2.0")])
    endless = copy.copy(repository)
    topic = topics.meta_topic(role, repository.versions[role])
    good = repository.retained[topic]
    endless.retained = {**repository.retained, topic: good + b" " * (MAX_DOCUMENT + 1 - len(good))}
    home.offer(endless, release)
    assert home.unharmed() == ["not_available"]


def test_a_head_that_names_roots_without_end_ends(home: Home) -> None:
    repository = home.repository
    release = repository.release("portrait", "2.0", [repository.base(EVIL, "2.0")])
    repository.versions["root"] = 10**15
    repository.put_head()
    home.offer(repository, release)
    assert home.unharmed() == ["not_available"]
    assert sum(home.frame.fetched[topics.meta_topic("root", version)] for version in range(1, 400)) == 0
