"""Changed keys, from the offline folder through the server to a frame: who counts afterwards, and who does not."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.utils import timezone
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from fleet.models import AuditEntry
from framectl.documents import ROOTS
from framectl.offline import OfflineFolder
from framectl.package import Package
from framectl.signers import load
from ota import keys, repository, tasks
from ota.models import DesiredState, Release, TufDocument
from ota.services import artifacts, director, releases, roles
from protocol import topics
from protocol.errors import Reason, Refused
from tests.framectl.conftest import BASE, Desk, adapter
from tests.framectl.people import EVERYBODY, People
from tests.ota.wall import Frame
from tests.ota.world import Enrol, publish_all

pytestmark = pytest.mark.django_db

BUNDLE = "base/talking-portrait-1.0.bundle"


def online(people: People) -> str:
    """The answer of GET online-keys/, carried to the offline machine."""
    path = people.home / "online.json"
    path.write_text(json.dumps(keys.public_keys()))
    return str(path)


@pytest.fixture
def people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> People:
    """Their folder is set up on the server: root 2 of alice, bob, carol; the rest 2 of dora, emil, fred."""
    found = People(tmp_path / "people", capsys)
    found.home.mkdir()
    found.new(*EVERYBODY, "gina")
    found.ceremony(Path(online(found)))
    found.sign("alice", "bob", "dora", "emil")
    repository.accept_first(documents(found))
    return found


@pytest.fixture
def frame(people: People) -> Frame:
    folder = Path(people.folder) / "metadata"
    return Frame((folder / "1.root.json").read_bytes(), (folder / "1.director-root.json").read_bytes())


def documents(people: People) -> dict[str, Any]:
    with OfflineFolder.open(Path(people.folder)) as folder:
        return {role: json.loads(one.to_bytes()) for role, one in folder.documents.items()}


def push_roles(people: People, only: Sequence[str] = ()) -> None:
    """As ``framectl repository push-roles`` does; ``only`` some of the documents."""
    theirs = {role: one.version for role, one in repository.newest_documents().items()}
    given: dict[str, object] = {}
    with OfflineFolder.open(Path(people.folder)) as folder:
        for role, ours in folder.documents.items():
            if ours.signed.version <= theirs[role] or (only and role not in only):
                continue
            if role in ROOTS:
                steps = range(theirs[role] + 1, ours.signed.version + 1)
                given[role] = [json.loads(folder.root_path(role, step).read_bytes()) for step in steps]
            else:
                given[role] = json.loads(ours.to_bytes())
    roles.push(given, "eng")


def push(package: Path) -> Release:
    with Package.open(package) as opened:
        for sha256 in opened.artifacts:
            artifacts.store(sha256, opened.read(sha256))
        return releases.create(opened.manifest_bytes, opened.documents, "eng")[0]


def desk(people: People) -> Desk:
    return Desk(people.home, Path(people.folder))


def release(people: People, version: str, *names: str) -> Path:
    """A release that these people sign, the first one a base model and the others with an adapter."""
    it = desk(people)
    what: tuple[str, ...] = ("--base-model", it.file("base.bundle", BASE))
    if version != "1.0":
        file = it.file(f"{version}.adapter", adapter(BASE, version.encode()[-1:]))
        what = ("--base-release", "talking-portrait 1.0", "--adapter", file)
    assert it.sign(version, *what, "--key", people.key(names[0])) == 0
    for name in names[1:]:
        people.does(
            "release", "sign", "--offline", people.folder, "--add", str(it.package(version)), "--key", people.key(name)
        )
    return it.package(version)


def refused(people: People, only: Sequence[str] = ()) -> Refused:
    before = TufDocument.objects.count()
    with pytest.raises(Refused) as caught:
        push_roles(people, only)
    assert TufDocument.objects.count() == before
    return caught.value


def test_a_release_with_too_few_signatures_is_refused_and_leaves_nothing(people: People, frame: Frame) -> None:
    package = release(people, "1.0", "dora")
    with pytest.raises(Refused) as caught:
        push(package)
    assert caught.value.reason is Reason.WRONG_SIGNATURE
    assert "has 1 of 2 signatures: missing emil (" in caught.value.detail
    assert "fred (" in caught.value.detail
    assert not Release.objects.exists()
    assert repository.newest_documents()["base"].version == 1
    people.does("release", "sign", "--offline", people.folder, "--add", str(package), "--key", people.key("emil"))
    push(package)
    assert frame.target(BUNDLE).length == len(BASE)


def test_a_frame_that_was_away_for_five_roots_comes_back(people: People, frame: Frame) -> None:
    push(release(people, "1.0", "dora", "emil"))
    frame.refresh()
    seats = ["alice", "bob", "carol"]
    for number in range(5):
        people.new(f"next-{number}")
        leaving = seats.pop(0)
        people.does(
            "keys", "rotate", people.folder, "--role=root", f"--add={people.public(f'next-{number}')}",
            f"--remove={leaving}",
        )  # fmt: skip
        people.sign(leaving, seats[0], f"next-{number}")
        seats.append(f"next-{number}")
        if number != 2:  # two rotations go to the server in one push
            push_roles(people)
    assert repository.newest_documents()["root"].version == 6
    assert not set(EVERYBODY[:3]) & set(seats)
    push(release(people, "1.1", "emil", "fred"))
    assert frame.target("lora/talking-portrait-1.1.adapter").sha256
    assert [topic for topic in frame.read if "/root/" in topic] == [topics.meta_topic("root", n) for n in range(2, 7)]
    # One that was never switched on since its birth.
    new = Frame(frame.root, frame.director_root)
    assert new.target(BUNDLE).length == len(BASE)


def test_a_revoked_delegated_key_signs_nothing_any_more(people: People, frame: Frame) -> None:
    push(release(people, "1.0", "dora", "emil"))
    old_package = release(people, "1.1", "dora", "emil")
    _forget(people, "1.1")  # a desk where 1.1 was never seen
    people.does("keys", "revoke", people.folder, "emil")
    people.sign("alice", "bob", "dora", "fred")
    push_roles(people)
    assert frame.target(BUNDLE).length == len(BASE)

    with pytest.raises(Refused) as caught:
        push(old_package)
    assert "has version 2, but 3 comes next" in caught.value.detail
    # The thief signs the very next version, together with dora's old computer.
    stolen = Metadata.from_bytes(bytes(repository.newest_documents()["lora"].wire))
    stolen.signed.version += 1
    stolen.signatures.clear()
    for name in ("emil", "dora"):
        stolen.sign(load(people.key(name)), append=True)
    with pytest.raises(Refused) as caught:
        repository.accept_delegated({"lora": json.loads(stolen.to_bytes())})
    assert caught.value.reason is Reason.WRONG_SIGNATURE
    assert "has 1 of 2 signatures: missing fred (" in caught.value.detail


def _forget(people: People, version: str) -> None:
    """Bring the folder's documents back to what the server has."""
    newest = repository.newest_documents()
    for role in ("base", "lora", "release"):
        (Path(people.folder) / "metadata" / f"{role}.json").write_bytes(newest[role].wire)
    (Path(people.folder) / "releases" / f"talking-portrait-{version}.json").unlink()


def with_online_keys(listed: Mapping[str, int], ahead: int = 1) -> dict[str, bytes]:
    """What a thief of the snapshot and timestamp keys puts into the broker: newer documents, ``ahead`` versions on."""
    newest = repository.newest_documents()
    snapshot: Metadata[Any] = Metadata.from_bytes(newest["snapshot"].wire)
    snapshot.signed.version += ahead
    for name, version in listed.items():
        snapshot.signed.meta[name].version = version
    snapshot.sign(keys.online_key("snapshot").signer)
    timestamp: Metadata[Any] = Metadata.from_bytes(newest["timestamp"].wire)
    timestamp.signed.version += ahead
    timestamp.signed.snapshot_meta.version = snapshot.signed.version
    timestamp.sign(keys.online_key("timestamp").signer)
    versions = {"root": newest["root"].version, "director_root": newest["director-root"].version}
    return {
        topics.REPO_HEAD: msgspec.json.encode({**versions, "timestamp": timestamp.signed.version, "v": 1}),
        topics.meta_topic("timestamp", timestamp.signed.version): timestamp.to_bytes(),
        topics.meta_topic("snapshot", snapshot.signed.version): snapshot.to_bytes(),
    }


def test_a_frame_refuses_what_a_revoked_key_signed_even_from_whoever_has_the_online_keys(
    people: People, frame: Frame
) -> None:
    """Broker, snapshot and timestamp keys are the thief's: what counts is the frame's own look at the targets keys."""
    push(release(people, "1.0", "dora", "emil"))
    frame.refresh()
    people.does("keys", "revoke", people.folder, "emil")
    people.sign("alice", "bob", "dora", "fred")
    push_roles(people)
    frame.refresh()

    newest = repository.newest_documents()
    lora: Metadata[Any] = Metadata.from_bytes(newest["lora"].wire)
    lora.signed.version += 1
    lora.signatures.clear()
    lora.sign(load(people.key("emil")), append=True)
    lora.sign(load(people.key("gina")), append=True)
    forged = with_online_keys({"lora.json": lora.signed.version})
    forged[topics.meta_topic("lora", lora.signed.version)] = lora.to_bytes()
    with pytest.raises(Refused) as caught:
        frame.refresh(forged)
    assert caught.value.reason is Reason.WRONG_SIGNATURE


def test_a_revoked_root_key_makes_no_more_roots(people: People, frame: Frame) -> None:
    """carol's key is lost to a thief who also finds alice's: one of the two counts no more."""
    people.does("keys", "rotate", people.folder, "--role=root", f"--add={people.public('gina')}", "--remove=carol")
    people.does(
        "keys", "rotate", people.folder, "--role=director-root", f"--add={people.public('gina')}", "--remove=carol"
    )
    people.sign("alice", "bob")
    push_roles(people)
    frame.refresh()
    evil = Metadata.from_bytes(repository.newest_documents()["root"].wire)
    evil.signed.version += 1
    evil.signatures.clear()
    for name in ("alice", "carol"):
        evil.sign(load(people.key(name)), append=True)
    with pytest.raises(Refused) as caught:
        roles.push({"root": json.loads(evil.to_bytes())}, "thief")
    assert caught.value.reason is Reason.WRONG_SIGNATURE
    assert "missing bob (" in caught.value.detail
    newest = repository.newest_documents()
    head = {"root": evil.signed.version, "timestamp": newest["timestamp"].version, "director_root": 2, "v": 1}
    forged = {topics.REPO_HEAD: msgspec.json.encode(head), topics.meta_topic("root", 3): evil.to_bytes()}
    with pytest.raises(Refused) as caught:
        frame.refresh(forged)
    assert caught.value.reason is Reason.WRONG_SIGNATURE


def test_new_keys_need_everything_below_them_signed_again(people: People) -> None:
    push(release(people, "1.0", "dora", "emil"))
    people.does("keys", "revoke", people.folder, "emil")
    people.sign("alice", "bob", "dora", "fred")
    assert "The targets document has 1 of 2 signatures: missing fred (" in refused(people, ["root"]).detail
    assert "document has 1 of 2 signatures: missing fred (" in refused(people, ["root", "targets"]).detail
    assert "The root document" in refused_root_jump(people).detail
    push_roles(people)
    entry = AuditEntry.objects.latest("at")
    assert (entry.actor, entry.action) == ("eng", "repository.roles")
    push_roles(people)  # again: harmless
    assert repository.newest_documents()["root"].version == 2


def refused_root_jump(people: People) -> Refused:
    with OfflineFolder.open(Path(people.folder)) as folder:
        root = Metadata.from_bytes(folder.documents["root"].to_bytes())
    root.signed.version = 3
    with pytest.raises(Refused) as caught:
        roles.push({"root": json.loads(root.to_bytes())}, "eng")
    return caught.value


def test_files_come_with_releases_only(people: People) -> None:
    push(release(people, "1.0", "dora", "emil"))
    release(people, "1.1", "dora", "emil")
    people.does("keys", "renew", people.folder, "--document=lora", "--document=release")
    people.sign("dora", "fred")
    assert "push the packages" in refused(people).detail


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [[]], [{}], {"signed": {"_type": "targets"}, "signatures": []}])
def test_odd_documents_are_refused_in_one_sentence(people: People, odd: Any) -> None:
    given: Mapping[str, Any]
    for given in ({"root": odd}, {"targets": odd}, {"snapshot": odd}):
        if given == {"root": []}:
            continue  # no newer root: nothing to do
        with pytest.raises(Refused):
            roles.push(given, "eng")


# --- online keys ------------------------------------------------------------------------------------------------------


def trust_online(people: People) -> None:
    people.does("keys", "rotate", people.folder, "--role=online", f"--online={online(people)}")
    people.sign("alice", "carol")


def test_the_server_signs_with_the_old_online_key_until_a_root_names_the_next(people: People, frame: Frame) -> None:
    old = {role: keys.online_key(role).public.keyid for role in keys.ROLES}
    call_command("online_keys", "--rotate", "all")
    call_command("online_keys", "--rotate", "all")  # again, before any root: the same next keys
    assert {role: keys.online_key(role).public.keyid for role in keys.ROLES} == old
    assert len(keys.held_keys("snapshot")) == 2
    push(release(people, "1.0", "dora", "emil"))
    frame.refresh()

    trust_online(people)
    push_roles(people)
    new = {role: keys.online_key(role).public.keyid for role in keys.ROLES}
    assert not set(new.values()) & set(old.values())
    for path in keys.folder().glob("*.pem"):
        if path.name.count(".") == 1:
            path.unlink()  # the old ones have served
    assert keys.make_missing() == []
    for role in ("snapshot", "timestamp"):
        newest = Metadata.from_bytes(repository.newest_documents()[role].wire)
        assert list(newest.signatures) == [new[role]]
    assert frame.target(BUNDLE).length == len(BASE)


def test_a_change_of_the_directors_key_has_all_desired_states_signed_again_batch_by_batch(
    people: People, frame: Frame, frames: Enrol
) -> None:
    ids = frames(7)
    one = push(release(people, "1.0", "dora", "emil"))
    director.set_desired(ids, one)
    frame.refresh()
    frame.desired(ids[0])
    call_command("online_keys", "--rotate", "director")
    trust_online(people)
    push_roles(people)
    frame.refresh()
    with pytest.raises(Refused) as caught:
        frame.desired(ids[0])  # signed with the key that is no longer the director's
    assert caught.value.reason is Reason.WRONG_SIGNATURE
    now = timezone.now()
    assert [director.refresh(now, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert frame.desired(ids[0]).version == 2


def test_a_lost_online_key_is_replaced_under_a_new_root(
    people: People, frame: Frame, frames: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(release(people, "1.0", "dora", "emil"))
    (keys.folder() / "snapshot.pem").unlink()
    with pytest.raises(ImproperlyConfigured, match=r"online_keys"):
        keys.online_key("snapshot")
    call_command("online_keys")  # makes a first key; no root names it
    with pytest.raises(ImproperlyConfigured, match=r"--rotate snapshot"):
        repository.refresh_online(timezone.now() + dt.timedelta(days=6))
    (frame_id,) = frames(1)
    director.set_desired([frame_id], None)
    DesiredState.objects.update(renew_at=timezone.now())
    monkeypatch.setattr(repository, "SNAPSHOT_MARGIN", dt.timedelta(days=30))
    with pytest.raises(ImproperlyConfigured):
        tasks.refresh()
    assert director.desired_versions([frame_id]) == {frame_id: 2}
    monkeypatch.undo()
    trust_online(people)
    push_roles(people)
    assert frame.target(BUNDLE).length == len(BASE)
    assert repository.refresh_online(timezone.now() + dt.timedelta(days=6))


def test_stolen_online_keys_leave_nothing_behind_once_they_are_replaced(people: People, frame: Frame) -> None:
    """The thief ran far ahead with the versions, so that the server's own documents looked old for ever."""
    push(release(people, "1.0", "dora", "emil"))
    frame.refresh(with_online_keys({}, ahead=1_000_000))
    with pytest.raises(Refused) as caught:
        frame.refresh()
    assert caught.value.reason is Reason.OLD_VERSION
    call_command("online_keys", "--rotate", "snapshot", "--rotate", "timestamp")
    trust_online(people)
    push_roles(people)
    assert frame.target(BUNDLE).length == len(BASE)


def test_a_repository_may_begin_with_roots_that_were_changed_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = People(tmp_path, capsys)
    people.new(*EVERYBODY)
    people.ceremony(Path(online(people)))
    people.sign("alice", "bob", "dora", "emil")
    for _ in range(2):
        people.does("keys", "renew", people.folder, "--document=root")
        people.sign("alice", "bob")
    metadata = Path(people.folder) / "metadata"
    first = documents(people)
    first["root"] = [json.loads((metadata / f"{number}.root.json").read_bytes()) for number in (1, 2, 3)]
    assert repository.accept_first(first)["root"].version == 3
    born_first = Frame((metadata / "1.root.json").read_bytes(), (metadata / "1.director-root.json").read_bytes())
    born_first.refresh()
    assert topics.meta_topic("root", 2) in born_first.read


def test_a_root_with_somebody_elses_online_key_is_refused(people: People) -> None:
    foreign = {role: CryptoSigner.generate_ed25519().public_key for role in keys.ROLES}
    path = people.home / "foreign.json"
    path.write_text(json.dumps({role: {"keyid": key.keyid, "key": key.to_dict()} for role, key in foreign.items()}))
    people.does("keys", "rotate", people.folder, "--role=online", f"--online={path}")
    people.sign("alice", "carol")
    assert refused(people).reason is Reason.WRONG_IDENTITY


# --- renewal without bursts -------------------------------------------------------------------------------------------


def test_desired_states_issued_together_are_renewed_one_by_one(people: People, frames: Enrol) -> None:
    ids = frames(600)
    start = timezone.now()
    director.set_desired(ids, None, start)
    rows = list(DesiredState.objects.values_list("renew_at", "expires_at"))
    before_expiry = [(expires - renew) / dt.timedelta(hours=1) for renew, expires in rows]
    assert min(before_expiry) >= 12
    assert max(before_expiry) <= 18
    each = [director.refresh(start + dt.timedelta(hours=6, minutes=20 * step)) for step in range(1, 19)]
    assert sum(each) == 600
    assert max(each) < 70  # 33 on average


def test_what_was_published_stays_published_in_order(people: People) -> None:
    trust = release(people, "1.0", "dora", "emil")
    push(trust)
    publish_all()
    people.does("keys", "renew", people.folder)
    people.sign("alice", "bob", "dora", "emil")
    push_roles(people)
    sent = [one.topic for one in publish_all()]
    assert sent[-1] == topics.REPO_HEAD
    assert topics.meta_topic("root", 2) in sent
