"""A release brings an agent: who keeps it, what it must be able to do before it is committed, and the way back."""

import pytest

from device_agent.installer.slots import Journal
from device_agent.ports import TrialPolicy
from protocol import topics
from protocol.codec import encode
from protocol.errors import Reason
from protocol.messages import Ack, TargetRef
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.repository import Published, Repository, desired

POLICY = TrialPolicy(playbacks=2, healthy_s=3_600.0)
WHY = "Agent 2.0 did not stay up."


class Changing:
    """A frame that committed 1.0 on its image's agent; ``restart`` is what boot does once the core wants it."""

    def __init__(self) -> None:
        self.repository = repository = Repository()
        self.base = repository.base(b"model" * 100)
        self.first = self.release("1.0")
        self.frame = Frame(repository.retained, repository.anchors(), policy=POLICY)
        self.version = 0
        self.frame.connect()
        self.offer(self.first)
        self.play(2)
        assert self.journal.state == "committed"

    def release(self, version: str, *targets: TargetRef) -> Published:
        return self.repository.release("portrait", version, [self.base, *targets])

    def agent(self, version: str = "2.0") -> TargetRef:
        return self.repository.agent(b"agent" * 100 + version.encode(), version)

    def offer(self, published: Published) -> None:
        self.version += 1
        self.frame.give(self.repository.envelope(desired(FRAME, self.version, published)))

    def restart(self, *, answered: bool = True) -> None:
        self.frame.core.stop(self.frame.now)
        self.frame.running = self.frame.core.journal.agent
        self.frame.boot()
        self.frame.connect()
        if answered:
            self.answer()

    def answer(self) -> None:
        """The backend answers the frame's hello."""
        ack = Ack(outbox_id="0" * 32, seq=0, desired_version=0, hello=True)
        self.frame.run(self.frame.core.received(topics.frame_topic(FRAME, "ack"), encode(ack), self.frame.now))

    def play(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.frame.core.playing is not None
            self.frame.run(self.frame.core.played(self.frame.now, self.frame.core.playing.release))

    def commit(self, published: Published) -> None:
        self.offer(published)
        self.restart()
        self.play(2)
        assert (self.journal.state, self.plays) == ("committed", published.release.sha256)

    @property
    def journal(self) -> Journal:
        return self.frame.core.journal

    @property
    def plays(self) -> str | None:
        return self.frame.core.playing.release if self.frame.core.playing is not None else None

    @property
    def runs(self) -> str | None:
        return self.frame.core.journal.agent.version if self.frame.core.journal.agent is not None else None


@pytest.fixture
def it() -> Changing:
    return Changing()


def test_nothing_plays_on_the_agent_before_and_nothing_counts_until_its_own_runs(it: Changing) -> None:
    second = it.release("1.1", it.agent())
    it.offer(second)
    assert (it.journal.state, it.journal.playing_slot, it.runs) == ("trial", "B", "2.0")
    assert it.plays == it.first.release.sha256
    it.frame.run(it.frame.core.played(it.frame.now, second.release.sha256))
    it.frame.wait(2 * POLICY.healthy_s)
    assert it.journal.probation is not None
    assert (it.journal.probation.playbacks, it.journal.probation.healthy_s) == (0, 0.0)
    it.restart()
    assert it.plays == second.release.sha256
    assert it.frame.hellos[-1].agent_version == it.frame.reports[-1].agent_version == "2.0"
    it.play(2)
    assert it.journal.state == "committed"


def test_the_next_release_keeps_it_and_going_back_takes_it_along(it: Changing) -> None:
    second = it.release("1.1", it.agent())
    it.commit(second)
    third = it.release("1.2", it.repository.adapter(b"adapter" * 100, it.base))
    it.commit(third)
    assert it.runs == "2.0"
    assert it.frame.store.has(second.targets[1].sha256)
    it.commit(second)
    assert it.runs == "2.0"


def test_going_back_to_the_release_before_gives_the_images_agent_back(it: Changing) -> None:
    it.commit(it.release("1.1", it.agent()))
    it.commit(it.first)
    assert (it.runs, it.frame.hellos[-1].agent_version) == (None, "0.1.0")


def test_another_agent_replaces_it_and_its_file_goes(it: Changing) -> None:
    second, third = it.release("1.1", it.agent()), it.release("1.2", it.agent("3.0"))
    it.commit(second)
    it.commit(third)
    assert it.runs == "3.0"
    it.commit(it.release("1.3"))
    assert it.runs == "3.0"
    assert not it.frame.store.has(second.targets[1].sha256)


def test_one_that_the_backend_never_answers_is_not_committed_by_films(it: Changing) -> None:
    it.offer(it.release("1.1", it.agent()))
    it.frame.disconnect()
    it.frame.core.stop(it.frame.now)
    it.frame.running = it.frame.core.journal.agent
    it.frame.boot()
    it.play(5)
    assert it.journal.state == "trial"
    it.frame.wait(POLICY.healthy_s)
    assert (it.journal.state, it.plays) == ("reverted", it.first.release.sha256)
    assert it.journal.failure is not None
    assert it.journal.failure.reason is Reason.TRIAL_FAILED
    assert it.journal.failure.detail.endswith("the agent it brought never got an answer from the backend.")
    assert it.runs is None, "the image's is to run again"


def test_films_count_as_soon_as_the_backend_has_answered(it: Changing) -> None:
    second = it.release("1.1", it.agent())
    it.offer(second)
    it.restart(answered=False)
    it.play(3)
    it.frame.give(it.repository.envelope(desired(FRAME, it.version, second)))
    assert it.journal.probation is not None, "what the broker has retained is no answer"
    it.answer()
    assert it.journal.state == "committed"


def test_a_release_without_an_agent_is_committed_in_a_house_without_a_network(it: Changing) -> None:
    it.offer(it.release("1.1", it.repository.adapter(b"adapter" * 100, it.base)))
    it.frame.disconnect()
    it.frame.boot()
    it.play(2)
    assert it.journal.state == "committed"


def test_one_that_was_given_up_on_probation_ends_its_release(it: Changing) -> None:
    it.offer(it.release("1.1", it.agent()))
    it.frame.not_started = WHY
    it.frame.boot()
    assert (it.journal.state, it.plays) == ("reverted", it.first.release.sha256)
    assert it.journal.failure is not None
    assert WHY in it.journal.failure.detail


def test_one_that_was_given_up_after_its_commit_brings_the_release_before_back(it: Changing) -> None:
    it.commit(it.release("1.1", it.agent()))
    it.frame.running, it.frame.not_started = None, WHY
    it.frame.boot()
    assert (it.journal.state, it.plays, it.runs) == ("reverted", it.first.release.sha256, None)
    assert it.journal.failure is not None
    assert it.journal.failure.detail == WHY


def test_where_there_is_no_way_back_the_committed_release_plays_on_the_images_agent_and_says_so(it: Changing) -> None:
    second = it.release("1.1", it.agent())
    it.commit(second)
    it.offer(it.release("2.0", it.repository.adapter(b"adapter" * 100, it.base)))
    it.frame.run(it.frame.core.played(it.frame.now, it.plays or "", "It crashed."))
    assert it.plays == second.release.sha256
    it.frame.running, it.frame.not_started = None, WHY
    it.frame.boot()
    assert it.plays == second.release.sha256
    assert [event.kind for event in it.frame.health][-1] == "agent_not_started"
    assert it.frame.health[-1].detail == WHY


def test_one_that_is_given_up_later_does_not_stay_on_probation_for_ever(it: Changing) -> None:
    it.offer(it.release("1.1", it.agent()))
    it.frame.not_started = WHY
    it.frame.wait(60.0)
    it.frame.run(it.frame.core.tick(it.frame.now))
    assert (it.journal.state, it.plays) == ("reverted", it.first.release.sha256)


def test_an_answer_on_probation_is_not_forgotten_by_a_restart(it: Changing) -> None:
    it.offer(it.release("1.1", it.agent()))
    it.restart()
    it.frame.boot()
    it.play(2)
    assert it.journal.state == "committed"


def test_a_release_that_comes_while_another_is_on_probation_runs_on_the_committed_ones_agent(it: Changing) -> None:
    it.offer(it.release("1.1", it.agent()))
    it.restart(answered=False)
    it.offer(it.release("1.2", it.repository.adapter(b"adapter" * 100, it.base)))
    assert it.journal.probation is not None
    assert it.runs is None, "the agent that is withdrawn goes with its release"


def test_crashes_under_an_agent_that_stands_in_are_not_held_against_the_release(it: Changing) -> None:
    second = it.release("1.1", it.agent())
    it.commit(second)
    it.frame.running = None
    it.frame.boot()
    for _ in range(5):
        it.frame.run(it.frame.core.played(it.frame.now, second.release.sha256, "It crashed."))
    assert (it.journal.state, it.plays) == ("committed", second.release.sha256)


@pytest.mark.parametrize(
    ("version", "needs", "refused"), [("2.0", "2.0", None), ("2.0", "2.1", "its release brings 2.0")]
)
def test_what_needs_an_agent_is_held_against_the_one_its_release_brings(
    it: Changing, version: str, needs: str, refused: str | None
) -> None:
    adapter = it.repository.adapter(b"adapter" * 100, it.base, min_agent=needs)
    it.offer(it.release("1.1", adapter, it.agent(version)))
    if refused is None:
        assert it.journal.probation is not None
    else:
        assert it.journal.failure is not None
        assert it.journal.failure.reason is Reason.INCOMPATIBLE
        assert refused in it.journal.failure.detail


def test_an_agent_that_needs_a_newer_one_before_it_is_refused(it: Changing) -> None:
    it.offer(it.release("1.1", it.repository.agent(b"agent", "3.0", min_agent="2.0")))
    assert it.journal.failure is not None
    assert it.journal.failure.detail == "agent/agent-3.0.zip needs agent 2.0; this frame has 0.1.0."


def test_two_agents_or_one_without_a_version_are_refused(it: Changing) -> None:
    it.offer(it.release("1.1", it.agent("2.0"), it.agent("3.0")))
    assert it.journal.failure is not None
    assert "at most one agent; this one has 2" in it.journal.failure.detail
    it.offer(it.release("1.2", it.repository.agent(b"agent", None)))
    assert it.journal.failure is not None
    assert "an agent of no version" in it.journal.failure.detail
