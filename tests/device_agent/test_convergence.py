"""A frame converges on its DesiredState, and refuses what director and image repository do not both name."""

from typing import Any

import msgspec
import pytest

from device_agent.installer.machine import MAX_TRIAL_ATTEMPTS
from device_agent.ports import TrialReport
from protocol import topics
from protocol.chunks import sha256_hex
from protocol.errors import Reason, Refused
from protocol.messages import Ack, DesiredState, Failure, TargetRef
from protocol.repository import RuntimeRange
from tests.device_agent.frame import FRAME, MEASURED, Frame
from tests.device_agent.repository import Published, Repository, desired

BUNDLE = bytes(range(256)) * 900  # four chunks
ADAPTER = b"adapter" * 5_000


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def first(repository: Repository) -> Published:
    return repository.release("portrait", "1.0", [repository.base(BUNDLE)])


@pytest.fixture
def second(repository: Repository, first: Published) -> Published:
    base = first.targets[0]
    return repository.release("portrait", "1.1", [base, repository.adapter(ADAPTER, base)])


@pytest.fixture
def frame(repository: Repository) -> Frame:
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    return frame


def offer(frame: Frame, repository: Repository, version: int, published: Published | None, **changes: Any) -> None:
    frame.give(repository.envelope(desired(FRAME, version, published, **changes)))


def states(frame: Frame) -> list[str]:
    return [report.state for report in frame.reports]


def test_a_blank_frame_installs_what_it_should_run(frame: Frame, repository: Repository, first: Published) -> None:
    offer(frame, repository, 1, first)
    assert states(frame) == ["idle", "downloading", "verifying", "staged", "trial", "trial", "committed"]
    last = frame.reports[-1]
    assert (last.release, last.slot, last.desired_version) == (first.release.sha256, "A", 1)
    assert last.target is None
    assert last.failure is None
    assert last.lip_errors == list(MEASURED)
    sequences = [report.sequence for report in frame.reports]
    assert sequences == sorted(set(sequences))


def test_a_fix_goes_into_the_other_slot_and_fetches_only_what_is_new(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    frame.fetched.clear()
    offer(frame, repository, 2, second)
    assert frame.core.journal.active == "B"
    assert frame.core.playing is not None
    assert frame.core.playing.release == second.release.sha256
    chunks = {topic for topic in frame.fetched if topic.startswith("repo/chunk/")}
    assert chunks == {topics.chunk_topic(sha256_hex(ADAPTER)), topics.chunk_topic(second.release.sha256)}


def test_going_back_fetches_nothing_from_the_store(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    offer(frame, repository, 2, second)
    frame.fetched.clear()
    offer(frame, repository, 3, first)
    assert frame.core.playing is not None
    assert frame.core.playing.release == first.release.sha256
    assert not [topic for topic in frame.fetched if topic.startswith("repo/chunk/")]


def test_what_plays_already_is_committed_without_a_question(
    frame: Frame, repository: Repository, first: Published
) -> None:
    offer(frame, repository, 1, first)
    frame.fetched.clear()
    offer(frame, repository, 2, first)
    assert not frame.fetched
    assert (frame.reports[-1].state, frame.reports[-1].desired_version) == ("committed", 2)


def test_a_desired_state_without_a_release_keeps_what_plays(
    frame: Frame, repository: Repository, first: Published
) -> None:
    offer(frame, repository, 1, first)
    offer(frame, repository, 2, None)
    assert (frame.reports[-1].state, frame.reports[-1].release) == ("idle", first.release.sha256)


def test_the_same_desired_state_again_changes_nothing(frame: Frame, repository: Repository, first: Published) -> None:
    offer(frame, repository, 1, first)
    before = frame.core.journal
    offer(frame, repository, 1, first)
    assert frame.core.journal == before


def refused(frame: Frame, reason: Reason) -> str:
    """The frame said no for this reason, in report and event alike; returns the sentence."""
    last = frame.reports[-1]
    assert last.failure is not None
    assert last.failure.reason is reason
    assert frame.health[-1].kind == reason.value
    assert frame.health[-1].detail == last.failure.detail
    assert last.failure.detail.endswith(".")
    return last.failure.detail


def plays_first(frame: Frame, first: Published) -> None:
    playing = frame.core.playing
    assert playing is not None
    assert playing.release == first.release.sha256
    assert all(frame.store.has(name) for name in playing.files())


def test_director_and_image_repository_must_agree(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    base, adapter = second.targets
    for number, wrong in enumerate(
        (
            TargetRef(adapter.path, adapter.length + 1, adapter.sha256),
            TargetRef(adapter.path, adapter.length, sha256_hex(b"another")),
            TargetRef("lora/unknown.adapter", adapter.length, adapter.sha256),
        )
    ):
        frame.fetched.clear()
        offer(frame, repository, 2 + number, Published(second.release, [base, wrong]))
        assert frame.reports[-1].state == "failed"
        assert wrong.path in refused(frame, Reason.ROLES_DISAGREE)
        assert not [topic for topic in frame.fetched if topic.startswith("repo/chunk/")], "compared before fetching"
    plays_first(frame, first)


def test_the_release_lists_exactly_the_files_of_the_desired_state(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    offer(frame, repository, 2, Published(second.release, second.targets[:1]))
    assert "1.1" in refused(frame, Reason.ROLES_DISAGREE)
    plays_first(frame, first)


def test_a_target_no_role_may_sign_is_refused(frame: Frame, repository: Repository, first: Published) -> None:
    offer(frame, repository, 1, Published(first.release, [TargetRef("other/file", 1, sha256_hex(b"x"))]))
    refused(frame, Reason.BAD_MESSAGE)


def test_an_adapter_for_another_base_is_refused(frame: Frame, repository: Repository, first: Published) -> None:
    offer(frame, repository, 1, first)
    base = first.targets[0]
    other = repository.base(b"another base", "2.0")
    wrong = repository.release("portrait", "1.2", [base, repository.adapter(ADAPTER, other)])
    offer(frame, repository, 2, wrong)
    refused(frame, Reason.WRONG_BASE_MODEL)
    assert topics.chunk_topic(sha256_hex(ADAPTER)) not in frame.fetched
    plays_first(frame, first)


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware": ["rk3576"]},
        {"min_agent": "0.2"},
        {"min_agent": "1"},
        {"runtimes": [RuntimeRange(name="onnx", at_least="1.23"), RuntimeRange(name="rknn")]},
        {"runtimes": [RuntimeRange(name="onnx", below="1.22")]},
    ],
    ids=["hardware", "agent", "major", "older runtime", "newer runtime"],
)
def test_a_release_for_other_frames_is_refused(
    frame: Frame, repository: Repository, first: Published, changes: dict[str, Any]
) -> None:
    offer(frame, repository, 1, first)
    base = first.targets[0]
    offer(
        frame, repository, 2, repository.release("portrait", "1.2", [base, repository.adapter(b"x", base, **changes)])
    )
    refused(frame, Reason.INCOMPATIBLE)
    plays_first(frame, first)


def test_a_release_for_this_frames_runtime_is_installed(frame: Frame, repository: Repository, first: Published) -> None:
    offer(frame, repository, 1, first)
    base = first.targets[0]
    ranges = [RuntimeRange(name="rknn", at_least="2.3"), RuntimeRange(name="onnx", at_least="1.22", below="2")]
    newer = repository.release("portrait", "1.2", [base, repository.adapter(b"x", base, runtimes=ranges)])
    offer(frame, repository, 2, newer)
    assert frame.core.playing is not None
    assert frame.core.playing.release == newer.release.sha256


def test_a_release_needs_one_base_model(frame: Frame, repository: Repository, first: Published) -> None:
    base = first.targets[0]
    only = repository.release("portrait", "1.3", [repository.adapter(ADAPTER, base)])
    offer(frame, repository, 1, only)
    refused(frame, Reason.INCOMPATIBLE)
    assert frame.core.playing is None


def test_a_tampered_chunk_is_refused_after_three_tries(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    topic = topics.chunk_topic(sha256_hex(ADAPTER))
    repository.retained[topic] = ADAPTER[:-1] + b"X"
    offer(frame, repository, 2, second)
    frame.wait(10)
    assert frame.fetched[topic] == 3
    refused(frame, Reason.TAMPERED_CHUNK)
    plays_first(frame, first)


def test_a_chunk_that_is_good_the_second_time_is_taken(frame: Frame, repository: Repository, second: Published) -> None:
    topic = topics.chunk_topic(sha256_hex(ADAPTER))
    repository.retained[topic] = ADAPTER[:-1] + b"X"
    offer(frame, repository, 2, second)
    repository.retained[topic] = ADAPTER
    frame.wait(10)
    assert frame.reports[-1].state == "committed"


def test_what_never_comes_is_refused_and_tried_again_later(
    frame: Frame, repository: Repository, second: Published
) -> None:
    topic = topics.chunk_topic(sha256_hex(ADAPTER))
    del repository.retained[topic]
    offer(frame, repository, 2, second)
    frame.wait(10)
    assert states(frame)[-1] == "failed"
    refused(frame, Reason.NOT_AVAILABLE)
    repository.retained[topic] = ADAPTER
    frame.wait(800)
    assert states(frame)[-1] == "committed"
    assert frame.reports[-1].failure is None


def test_a_release_that_does_not_pass_its_trial_goes_back_with_figures(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    said = Failure(reason=Reason.TRIAL_FAILED, detail="The lip error on base is 0.90 mm; at most 0.45 mm is allowed.")
    frame.trial.report = TrialReport(MEASURED, said)
    offer(frame, repository, 2, second)
    last = frame.reports[-1]
    assert (last.state, last.target) == ("reverted", second.release.sha256)
    assert last.lip_errors == list(MEASURED)
    assert "0.90 mm" in refused(frame, Reason.TRIAL_FAILED)
    plays_first(frame, first)
    frame.wait(7 * 3_600)
    assert len(frame.trial.tried) == 2, "a release that failed its trial is not tried again by itself"


def test_a_release_the_runtime_cannot_read_goes_back(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    frame.trial.error = Refused(Reason.BAD_ARTIFACT, "This adapter is cut off: it ends inside its header.")
    offer(frame, repository, 2, second)
    assert frame.reports[-1].state == "reverted"
    refused(frame, Reason.BAD_ARTIFACT)
    plays_first(frame, first)


def test_a_crash_in_the_installation_is_told_and_the_frame_goes_on(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    frame.trial.error = ZeroDivisionError()
    offer(frame, repository, 2, second)
    assert "ZeroDivisionError" in refused(frame, Reason.INTERNAL)
    frame.trial.error = None
    offer(frame, repository, 3, second)
    assert frame.reports[-1].state == "committed"


def test_a_newer_desired_state_replaces_the_one_on_its_way(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    frame.before_message = lambda topic: not topic.startswith("repo/chunk")
    offer(frame, repository, 1, second)
    assert frame.core.journal.state == "downloading"
    frame.before_message = lambda topic: True
    offer(frame, repository, 2, first)
    assert frame.reports[-1].state == "committed"
    assert frame.reports[-1].release == first.release.sha256
    assert not frame.health


def test_a_lost_connection_holds_the_installation_up_but_does_not_end_it(
    frame: Frame, repository: Repository, second: Published
) -> None:
    frame.before_message = lambda topic: not topic.startswith("repo/chunk")
    offer(frame, repository, 1, second)
    frame.disconnect()
    frame.wait(100_000)
    assert frame.core.journal.state == "downloading"
    frame.before_message = lambda topic: True
    frame.connect()
    assert frame.reports[-1].state == "committed"


@pytest.mark.parametrize("cut_after", range(1, 14))
def test_a_restart_anywhere_goes_on_and_commits(
    repository: Repository, first: Published, second: Published, cut_after: int
) -> None:
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    offer(frame, repository, 1, first)
    seen = 0

    def cut(_: str) -> bool:
        nonlocal seen
        seen += 1
        return seen < cut_after

    frame.before_message = cut
    offer(frame, repository, 2, second)
    plays = frame.core.playing
    frame.boot()
    assert frame.core.playing == plays
    frame.before_message = lambda topic: True
    frame.connect()
    assert frame.core.journal.state == "committed"
    assert frame.reports[-1].release == second.release.sha256


def test_a_release_whose_trial_is_cut_off_again_and_again_is_given_up(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    offer(frame, repository, 1, first)
    frame.trial.error = KeyboardInterrupt()  # the process dies
    with pytest.raises(KeyboardInterrupt):
        offer(frame, repository, 2, second)
    for _ in range(1, MAX_TRIAL_ATTEMPTS):
        frame.boot()
        with pytest.raises(KeyboardInterrupt):
            frame.connect()
        assert frame.core.journal.state == "trial"
    frame.boot()
    frame.trial.error = None
    frame.connect()
    assert frame.reports[-1].state == "failed"
    assert "3 times" in refused(frame, Reason.TRIAL_FAILED)
    plays_first(frame, first)


def test_a_hello_is_repeated_until_answered_and_says_what_the_frame_has(
    frame: Frame, repository: Repository, first: Published
) -> None:
    offer(frame, repository, 5, first)
    frame.wait(3)
    assert len(frame.hellos) == 2
    assert frame.hellos[-1].desired_version == 5
    assert frame.hellos[-1].release == first.release.sha256
    ack = Ack(outbox_id=frame.outbox.outbox_id, seq=0, desired_version=5, hello=True)
    frame.run(frame.core.received(topics.frame_topic(FRAME, "ack"), msgspec.json.encode(ack), frame.now))
    frame.wait(600)
    assert len(frame.hellos) == 2


def test_the_state_is_reported_again_from_time_to_time_and_at_every_connection(frame: Frame) -> None:
    assert len(frame.reports) == 1
    frame.wait(60)
    assert len(frame.reports) == 2
    frame.wait(1_000)
    assert len(frame.reports) == 3
    frame.disconnect()
    frame.wait(10_000)
    frame.connect()
    assert len(frame.reports) == 4


def test_only_a_desired_state_with_all_its_parts_is_understood(frame: Frame) -> None:
    frame.give(b"{}")
    frame.give(b"\xff\xfe")
    assert [event.kind for event in frame.health] == ["bad_message", "bad_message"]
    assert isinstance(desired(FRAME, 1), DesiredState)
