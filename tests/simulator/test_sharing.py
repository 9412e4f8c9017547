"""What frames of one process share, and that sharing changes no answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from device_agent.installer.slots import Installed, Slot
from device_agent.ports import FrameTrust, TrialReport
from device_agent.storage.journal import MemoryDocuments
from device_agent.telemetry import trial_report
from device_agent.trust.image import NoTrustAnchor
from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.codec import decode
from protocol.errors import Reason, Refused
from protocol.messages import LipError, RepoHead
from simulator.content import SharedContent, SharedStore
from simulator.trials import TRIES, SharedTrials
from simulator.trust import TrustCache
from tests.device_agent.repository import Repository

BASE = b"a" * 100_000 + b"b" * 50_000
ROLES = ["base", "lora", "release"]


def read_all(trust: FrameTrust, repository: Repository) -> None:
    """What ``protocol.sequences.refresh`` does, without waiting."""
    head = decode(repository.retained[topics.REPO_HEAD], RepoHead)
    for chain, newest in (("root", head.root), ("director-root", head.director_root)):
        for version in range(trust.root_version(chain) + 1, newest + 1):
            trust.update_root(chain, repository.retained[topics.meta_topic(chain, version)])
    trust.begin()
    trust.update("timestamp", repository.retained[topics.meta_topic("timestamp", head.timestamp)])
    for role in ("snapshot", "targets", *ROLES):
        needed = trust.needed(role)
        if needed is not None:
            trust.update(role, repository.retained[topics.meta_topic(role, needed)])


@pytest.fixture
def repository() -> Repository:
    repository = Repository()
    repository.release("portrait", "1.0", [repository.base(BASE)])
    return repository


def test_documents_are_verified_once_and_every_frame_keeps_them(repository: Repository) -> None:
    cache = TrustCache()
    frames = [MemoryDocuments(repository.anchors()) for _ in range(20)]
    for documents in frames:
        trust = cache.open(documents)
        read_all(trust, repository)
        assert trust.target("base/portrait-1.0.bundle").sha256 == sha256_hex(BASE)
    once = cache.verified
    assert cache.reused >= 19 * (once - 1)
    for role in ("timestamp", "snapshot", "targets", *ROLES):
        copies = {id(documents.load(role)) for documents in frames}
        assert len(copies) == 1
        assert frames[0].load(role) == repository.documents[role]


def test_a_refresh_goes_on_really_where_it_leaves_the_known_path(repository: Repository) -> None:
    cache = TrustCache()
    first = MemoryDocuments(repository.anchors())
    read_all(cache.open(first), repository)
    repository.release("portrait", "1.1", [repository.base(b"other", "1.1")])
    for documents in (first, MemoryDocuments(repository.anchors())):
        trust = cache.open(documents)
        read_all(trust, repository)
        assert trust.target("base/portrait-1.1.bundle").sha256 == sha256_hex(b"other")


def test_a_forged_document_is_refused_for_every_frame_and_kept_by_none(repository: Repository) -> None:
    repository.forged["base"] = Repository().keys["base"]
    repository.publish()
    cache = TrustCache()
    for _ in range(3):
        documents = MemoryDocuments(repository.anchors())
        with pytest.raises(Refused) as refused:
            read_all(cache.open(documents), repository)
        assert refused.value.reason is Reason.WRONG_SIGNATURE
        assert documents.load("base") is None
        assert documents.load("snapshot") is not None


def test_a_frame_with_other_anchors_gets_no_answer_of_someone_else(repository: Repository) -> None:
    cache = TrustCache()
    read_all(cache.open(MemoryDocuments(repository.anchors())), repository)
    stranger = MemoryDocuments(Repository().anchors())
    with pytest.raises(Refused) as refused:
        read_all(cache.open(stranger), repository)
    assert refused.value.reason is Reason.WRONG_SIGNATURE
    with pytest.raises(NoTrustAnchor):
        cache.open(MemoryDocuments({}))


def test_a_frame_that_has_seen_newer_refuses_what_others_may_take(repository: Repository) -> None:
    cache = TrustCache()
    old = dict(repository.retained)
    repository.publish()
    ahead = MemoryDocuments(repository.anchors())
    read_all(cache.open(ahead), repository)
    repository.retained = old
    read_all(cache.open(MemoryDocuments(repository.anchors())), repository)
    with pytest.raises(Refused) as refused:
        read_all(cache.open(ahead), repository)
    assert refused.value.reason is Reason.OLD_VERSION


def test_outcomes_are_forgotten_after_a_minute(repository: Repository) -> None:
    now = [0.0]
    cache = TrustCache(lambda: now[0])
    read_all(cache.open(MemoryDocuments(repository.anchors())), repository)
    first = cache.verified
    now[0] = 61.0
    read_all(cache.open(MemoryDocuments(repository.anchors())), repository)
    assert cache.verified == 2 * first


def slot(bundle: bytes, adapter: bytes | None = None) -> Slot:
    files = [Installed(kind="base_model", path="base/x.bundle", length=len(bundle), sha256=sha256_hex(bundle))]
    if adapter is not None:
        files.append(Installed(kind="lora_delta", path="lora/x", length=len(adapter), sha256=sha256_hex(adapter)))
    return Slot(release="c" * 64, artifacts=tuple(files))


def test_a_pair_is_measured_once_while_the_others_wait() -> None:
    shared = {sha256_hex(data): data for data in (b"bundle", b"one", b"two")}
    calls: list[tuple[bytes, bytes | None]] = []
    lock = threading.Lock()

    def measure(bundle: bytes, adapter: bytes | None) -> TrialReport:
        with lock:
            calls.append((bundle, adapter))
        time.sleep(0.1)
        return TrialReport((LipError(segment="base", lip_mm=0.25, mean_pose_mm=1.4),))

    trials = SharedTrials(shared, measure)
    assert trials.lip_mm(slot(b"bundle"), "base") is None
    slots = [slot(b"bundle"), slot(b"bundle", b"one"), slot(b"bundle", b"two")] * 5
    with ThreadPoolExecutor(8) as executor:
        reports = list(executor.map(trials.measure, slots))
    assert sorted(calls, key=str) == [(b"bundle", None), (b"bundle", b"one"), (b"bundle", b"two")]
    assert {report.lip_errors[0].lip_mm for report in reports} == {0.25}
    assert trials.lip_mm(slot(b"bundle", b"one"), "base") == 0.25
    assert trials.lip_mm(slot(b"bundle", b"one"), "mandarin") is None
    assert trials.lip_mm(None, "base") is None


def test_a_refusal_is_everyones() -> None:
    def measure(bundle: bytes, adapter: bytes | None) -> TrialReport:
        raise Refused(Reason.BAD_ARTIFACT, "Damaged.")

    trials = SharedTrials({sha256_hex(b"bundle"): b"bundle"}, measure)
    for _ in range(3):
        with pytest.raises(Refused, match="Damaged"):
            trials.measure(slot(b"bundle"))
    assert trials.lip_mm(slot(b"bundle"), "base") is None


def download(store: SharedStore, data: bytes) -> None:
    sink = store.sink(sha256_hex(BASE), len(BASE))
    assert sink.resume([sha256_hex(chunk) for chunk in split(BASE)]) == 0
    for chunk in split(data):
        sink.append(bytes(bytearray(chunk)))
    sink.finish()


def test_downloads_of_many_frames_hold_one_copy() -> None:
    content = SharedContent()
    stores = [SharedStore(content) for _ in range(3)]
    for store in stores[:2]:
        download(store, BASE)
    assert [store.has(sha256_hex(BASE)) for store in stores] == [True, True, False]
    assert stores[0].read(sha256_hex(BASE)) is stores[1].read(sha256_hex(BASE))


@pytest.mark.parametrize("data", [BASE[:-1], BASE[:-1] + b"x", b"x" + BASE[1:]])
def test_a_download_with_wrong_bytes_is_refused_before_and_after_a_right_one(data: bytes) -> None:
    content = SharedContent()
    with pytest.raises(Refused):
        download(SharedStore(content), data)
    download(SharedStore(content), BASE)
    late = SharedStore(content)
    with pytest.raises(Refused):
        download(late, data)
    assert not late.has(sha256_hex(BASE))


def test_what_no_frame_has_is_forgotten() -> None:
    content = SharedContent()
    stores = [SharedStore(content), SharedStore(content)]
    download(stores[0], BASE)
    stores[1].put(b"other")
    assert content.tidy(stores) == 0
    stores[0].collect(frozenset())
    assert content.tidy(stores) == 1
    assert list(content.artifacts) == [sha256_hex(b"other")]


@pytest.mark.parametrize(("busy", "passes", "measured"), [(0, True, 1), (2, True, 3), (99, False, TRIES)])
def test_a_trial_that_a_busy_moment_failed_is_repeated_a_few_times(busy: int, passes: bool, measured: int) -> None:
    calls = 0

    def measure(bundle: bytes, delta: bytes | None) -> TrialReport:
        nonlocal calls
        calls += 1
        failures = ["One step in a hundred takes 58 ms or more."] if calls <= busy else []
        return trial_report((LipError("base", 0.3, 1.4, 0.45),), {}, failures)

    trials = SharedTrials({sha256_hex(b"bundle"): b"bundle"}, measure, pause_s=0.0)
    assert (trials.measure(slot(b"bundle")).failure is None) is passes
    assert calls == measured
    assert trials.measure(slot(b"bundle")).lip_errors[0].lip_mm == 0.3, "remembered, whatever came of it"
    assert calls == measured
