"""Which DesiredState the frame acts upon; only the director's own word to it can fail a release by name."""

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner

from device_agent.core import TRIES_AGAIN
from device_agent.gate import OBJECTIONS
from device_agent.ports import TrialReport
from device_agent.trust.time import utc_now
from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.codec import encode
from protocol.envelope import Envelope
from protocol.errors import Reason
from protocol.messages import Failure
from tests.device_agent.frame import FRAME, MEASURED, Frame
from tests.device_agent.repository import Published, Repository, desired, in_days, now_ms


@pytest.fixture
def repository() -> Repository:
    repository = Repository()
    base = repository.base(b"model" * 100)
    repository.release("portrait", "1.0", [base])
    return repository


@pytest.fixture
def frame(repository: Repository) -> Frame:
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    return frame


def kinds(frame: Frame) -> list[str]:
    return [event.kind for event in frame.health]


def test_a_forged_desired_state_is_reported_once_and_forgotten_with_the_next_good_one(
    frame: Frame, repository: Repository
) -> None:
    forged = repository.envelope(desired(FRAME, 9), CryptoSigner.generate_ed25519())
    for _ in range(3):
        frame.give(forged)
    assert kinds(frame) == ["wrong_signature"]
    last = frame.reports[-1]
    assert (last.state, last.desired_version) == ("idle", 0)
    assert last.failure is not None
    assert last.failure.reason is Reason.WRONG_SIGNATURE
    frame.give(repository.envelope(desired(FRAME, 1)))
    assert frame.reports[-1].failure is None


def test_strays_without_end_fill_neither_outbox_nor_flash_and_hide_no_good_word(
    frame: Frame, repository: Repository
) -> None:
    before = frame.core.journal.sequence
    for number in range(3 * OBJECTIONS):
        frame.give(repository.envelope(desired("frame-2", number + 1)))
    assert kinds(frame) == ["wrong_frame"] * OBJECTIONS
    assert frame.core.journal.sequence <= before + OBJECTIONS
    frame.give(repository.envelope(desired(FRAME, 1)))
    assert (frame.reports[-1].state, frame.reports[-1].desired_version) == ("idle", 1)


def test_a_director_with_new_keys_is_believed_after_a_look_at_its_root(frame: Frame, repository: Repository) -> None:
    repository.director = CryptoSigner.generate_ed25519()
    repository.sign_director_root()
    repository.publish()
    frame.give(repository.envelope(desired(FRAME, 1)))
    assert (frame.reports[-1].state, frame.reports[-1].desired_version) == ("idle", 1)
    assert kinds(frame) == []


def test_a_replayed_desired_state_is_noted_and_changes_nothing(frame: Frame, repository: Repository) -> None:
    old = repository.envelope(desired(FRAME, 1))
    frame.give(repository.envelope(desired(FRAME, 2)))
    frame.give(old)
    assert frame.core.journal.desired_version == 2
    assert frame.core.journal.failure is None
    assert kinds(frame) == ["old_version"]


def test_another_frames_desired_state_is_refused(frame: Frame, repository: Repository) -> None:
    frame.give(repository.envelope(desired("frame-2", 1)))
    assert kinds(frame) == ["wrong_frame"]
    assert frame.core.journal.desired_version == 0


# --- how far a refusal reaches ----------------------------------------------------------------------------------------


@pytest.fixture
def release(repository: Repository) -> Published:
    return repository.release("portrait", "2.0", [repository.base(b"model" * 50_000, "2.0")])


def test_an_expired_desired_state_of_the_director_names_its_release_as_failed(
    frame: Frame, repository: Repository, release: Published
) -> None:
    envelope = repository.envelope(desired(FRAME, 3, release, expires_at=now_ms() - 1))
    for _ in range(3):
        frame.give(envelope)
    last = frame.reports[-1]
    assert (last.state, last.target, last.desired_version) == ("failed", release.release.sha256, 3)
    assert last.failure is not None
    assert last.failure.reason is Reason.EXPIRED
    assert kinds(frame) == ["expired"]
    assert not frame.fetched
    frame.give(repository.envelope(desired(FRAME, 2, release)))
    assert kinds(frame) == ["expired", "old_version"], "it is held: nothing older is accepted afterwards"
    frame.give(repository.envelope(desired(FRAME, 4, release)))
    assert (frame.reports[-1].state, frame.reports[-1].failure) == ("committed", None)


def test_an_expired_desired_state_ends_what_is_on_its_way(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.before_message = lambda topic: not topic.startswith("repo/chunk")
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    newer = repository.release("portrait", "2.1", [repository.base(b"other" * 50_000, "2.1")])
    frame.give(repository.envelope(desired(FRAME, 2, newer, expires_at=now_ms() - 1)))
    assert (frame.reports[-1].state, frame.reports[-1].target) == ("failed", newer.release.sha256)
    frame.before_message = lambda topic: True
    frame.wait(60)
    assert frame.core.playing is None


def test_a_frame_whose_clock_was_ahead_installs_once_it_is_right(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.security_now = lambda: in_days(400)
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.wait(86_400)
    frame.boot()
    frame.connect()
    frame.wait(86_400)
    frame.security_now = utc_now
    assert (frame.reports[-1].state, kinds(frame)) == ("failed", ["expired"])
    frame.wait(8 * 3_600)
    assert (frame.reports[-1].state, frame.reports[-1].failure) == ("committed", None)


def test_one_that_expired_before_it_could_be_begun_is_told_after_the_start(
    repository: Repository, release: Published
) -> None:
    frame = Frame(repository.retained, repository.anchors())
    frame.documents.save("desired", repository.envelope(desired(FRAME, 1, release, expires_at=now_ms() - 1)))
    frame.boot()
    frame.connect()
    assert (frame.reports[-1].state, frame.reports[-1].target) == ("failed", release.release.sha256)
    assert kinds(frame) == ["expired"]


def test_what_plays_already_cannot_fail_by_expiry(frame: Frame, repository: Repository, release: Published) -> None:
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    for version, what in ((2, release), (3, None)):
        frame.give(repository.envelope(desired(FRAME, version, what, expires_at=now_ms() - 1)))
        last = frame.reports[-1]
        assert (last.state, last.release, last.target) == ("committed", release.release.sha256, None)
        assert last.desired_version == 1
    assert kinds(frame) == ["expired", "expired"]


@pytest.mark.parametrize("expires_in_ms", [-1, 3_600_000])
@pytest.mark.parametrize("what", ["forged", "another frame's", "a replay", "another kind", "not signed", "changed"])
def test_what_anybody_could_send_names_no_release_whatever_it_says_inside(
    frame: Frame, repository: Repository, release: Published, what: str, expires_in_ms: int
) -> None:
    frame.give(repository.envelope(desired(FRAME, 5)))
    expires_at = now_ms() + expires_in_ms
    mine = desired(FRAME, 9, release, expires_at=expires_at)
    good = repository.envelope(mine)
    older = repository.envelope(msgspec.structs.replace(mine, version=4))
    bad = {
        "forged": repository.envelope(mine, CryptoSigner.generate_ed25519()),
        "another frame's": repository.envelope(desired("frame-2", 9, release, expires_at=expires_at)),
        "a replay": older,
        "another kind": repository.envelope(mine, kind="application/other"),
        "not signed": encode(msgspec.structs.replace(msgspec.json.decode(good, type=Envelope), signatures=[])),
        "changed": encode(
            msgspec.structs.replace(
                msgspec.json.decode(older, type=Envelope), payload=msgspec.json.decode(good, type=Envelope).payload
            )
        ),
    }[what]
    frame.give(bad)
    frame.wait(3_600)
    last = frame.reports[-1]
    assert (last.state, last.target, last.desired_version) == ("idle", None, 5)
    assert len(kinds(frame)) == 1
    assert frame.core.journal.slot_a is None


def test_a_desired_state_that_expired_in_mid_way_goes_on_when_it_is_signed_anew(repository: Repository) -> None:
    base = repository.base(b"model" * 50_000, "2.0")
    release = repository.release("portrait", "2.0", [base])
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    frame.before_message = lambda topic: not topic.startswith("repo/chunk")
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.before_message = lambda topic: True
    frame.security_now = lambda: in_days(3)
    frame.boot()
    frame.connect()
    assert [report.state for report in frame.reports][-1] == "failed"
    assert kinds(frame) == ["expired"]
    frame.give(repository.envelope(desired(FRAME, 1, release, expires_at=now_ms() + 4 * 86_400_000)))
    frame.wait(1)
    assert frame.reports[-1].state == "committed"


def test_a_forgery_does_not_stop_an_installation(frame: Frame, repository: Repository) -> None:
    base = repository.base(b"model" * 50_000, "2.0")
    release = repository.release("portrait", "2.0", [base])
    frame.before_message = lambda topic: not topic.startswith("repo/chunk")
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.give(repository.envelope(desired(FRAME, 2), CryptoSigner.generate_ed25519()))
    assert frame.core.journal.state == "downloading"
    frame.before_message = lambda topic: True
    frame.wait(5)
    assert frame.reports[-1].state == "committed"
    assert kinds(frame) == ["wrong_signature"]


# --- without a clock --------------------------------------------------------------------------------------------------


# --- the same order, issued anew --------------------------------------------------------------------------------------


def test_a_release_that_went_back_is_not_tried_again_because_its_order_is_issued_anew(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.trial.report = TrialReport(MEASURED, Failure(reason=Reason.TRIAL_FAILED, detail="The lips are off."))
    frame.give(repository.envelope(desired(FRAME, 3, release, order=3)))
    assert (frame.reports[-1].state, len(frame.trial.tried)) == ("reverted", 1)
    fetched = frame.fetched.total()
    frame.trial.report = TrialReport(MEASURED)
    for version in (4, 5, 6):
        frame.give(repository.envelope(desired(FRAME, version, release, order=3)))
        frame.wait(7 * 3_600)
        last = frame.reports[-1]
        assert (last.state, last.desired_version, len(frame.trial.tried)) == ("reverted", version, 1)
    frame.boot()
    frame.connect()
    assert (frame.core.journal.state, len(frame.trial.tried), frame.fetched.total()) == ("reverted", 1, fetched)
    frame.give(repository.envelope(desired(FRAME, 7, release, order=7)))
    assert (frame.reports[-1].state, len(frame.trial.tried)) == ("committed", 2), "a new order is another matter"


def test_what_is_missing_is_asked_for_a_bounded_number_of_times_however_often_the_order_is_issued_anew(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.retained = {topic: data for topic, data in repository.retained.items() if not topic.startswith("repo/chunk")}
    frame.give(repository.envelope(desired(FRAME, 3, release, order=3)))
    began = 0
    for version in range(4, 44):
        frame.wait(6 * 3_600)
        frame.give(repository.envelope(desired(FRAME, version, release, order=3)))
        began = max(began, sum(report.state == "failed" for report in frame.reports))
    failed = kinds(frame).count("not_available")
    assert failed == 1 + TRIES_AGAIN
    frame.retained = repository.retained
    frame.give(repository.envelope(desired(FRAME, 50, release, order=50)))
    assert frame.reports[-1].state == "committed"


def test_a_download_goes_on_while_its_order_is_issued_anew(repository: Repository, release: Published) -> None:
    frame = Frame(dict(repository.retained), repository.anchors())
    frame.connect()
    last = topics.chunk_topic(sha256_hex(split(b"model" * 50_000)[-1]))
    missing = frame.retained.pop(last)
    frame.give(repository.envelope(desired(FRAME, 3, release, order=3)))
    assert frame.core.journal.state == "downloading"
    before = dict(frame.fetched)
    frame.give(repository.envelope(desired(FRAME, 4, release, order=3)))
    assert (frame.core.journal.state, frame.core.journal.desired_version) == ("downloading", 4)
    assert dict(frame.fetched) == before, "nothing is begun anew"
    frame.retained[last] = missing
    frame.wait(10)
    assert (frame.reports[-1].state, frame.reports[-1].desired_version) == ("committed", 4)


def test_an_installation_that_came_too_late_goes_on_when_its_order_is_issued_anew(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.give(repository.envelope(desired(FRAME, 3, release, order=3, expires_at=now_ms() - 1)))
    assert frame.reports[-1].state == "failed"
    frame.give(repository.envelope(desired(FRAME, 4, release, order=3)))
    frame.wait(1)
    assert (frame.reports[-1].state, frame.reports[-1].failure) == ("committed", None)


# --- without the time -------------------------------------------------------------------------------------------------


def test_a_frame_that_does_not_know_the_time_installs_nothing_says_so_once_and_fails_no_release(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.security_now = lambda: None
    for _ in range(3):
        frame.give(repository.envelope(desired(FRAME, 1, release)))
    last = frame.reports[-1]
    assert kinds(frame) == ["no_time"]
    assert (last.state, last.target, last.desired_version) == ("idle", None, 0)
    assert last.failure is not None
    assert last.failure.reason is Reason.NO_TIME


def test_what_came_before_the_time_was_known_is_installed_when_it_comes_again(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.security_now = lambda: None
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.security_now = utc_now
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    assert (frame.reports[-1].state, frame.reports[-1].failure) == ("committed", None)


def test_an_installation_that_a_start_without_the_time_found_goes_on_once_it_is_known(
    frame: Frame, repository: Repository
) -> None:
    release = repository.release("portrait", "2.0", [repository.base(b"model" * 50_000, "2.0")])
    frame.before_message = lambda topic: not topic.startswith("repo/chunk")
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.before_message = lambda topic: True
    frame.security_now = lambda: None
    frame.boot()
    frame.connect()
    assert (frame.reports[-1].state, kinds(frame)) == ("downloading", ["no_time"])
    frame.disconnect()
    frame.security_now = utc_now
    frame.connect()
    assert frame.reports[-1].state == "committed"


def test_a_frame_that_does_not_know_the_time_still_learns_the_directors_new_key(
    frame: Frame, repository: Repository, release: Published
) -> None:
    frame.security_now = lambda: None
    repository.director = CryptoSigner.generate_ed25519()
    repository.sign_director_root()
    repository.put_head()
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.wait(60)
    assert frame.documents.load("director-root") == repository.documents["director-root"]
    frame.security_now = utc_now
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    assert frame.reports[-1].state == "committed"
