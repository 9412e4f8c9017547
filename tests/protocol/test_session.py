"""Hello until answered; events until the backend has committed them, whatever the connection does."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import UNSET

from protocol.codec import decode, encode
from protocol.exchange import Command, Publish, Subscribe, Unsubscribe
from protocol.messages import Ack, AnyEvent, HealthEvent, Hello, TelemetryBatch
from protocol.session import ACK_TIMEOUT_S, DESIRED_PATIENCE_S, HELLO_AGAIN_S, HELLO_RETRY_S, Session
from protocol.topics import frame_topic

FRAME = "frame-1"
ID = "0" * 32
DESIRED, ACK, HELLO, EVENTS = (frame_topic(FRAME, kind) for kind in ("desired", "ack", "hello", "events"))


class MemoryOutbox:
    outbox_id = ID

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.next_seq = 1

    def add(self) -> None:
        self.events.append(HealthEvent(seq=self.next_seq, at=0, kind="k", detail="d"))
        self.next_seq += 1

    def peek(self, limit: int) -> list[AnyEvent]:
        return self.events[: min(limit, 3)]

    def discard(self, through: int) -> None:
        self.events = [event for event in self.events if event.seq > through]


class Frame:
    def __init__(self) -> None:
        self.outbox = MemoryOutbox()
        self.version = 0
        self.envelopes: list[bytes] = []
        self.session = Session(FRAME, self.outbox, self.hello, self.envelopes.append)

    def hello(self) -> Hello:
        return Hello(
            frame_id=FRAME, agent_version="1", hardware="h", locale="zh", desired_version=self.version, outbox_id=ID
        )


def ack(seq: int = 0, desired: int = 0, outbox_id: str = ID) -> bytes:
    """The answer to a hello."""
    return encode(Ack(outbox_id=outbox_id, seq=seq, desired_version=desired, hello=True))


def events_ack(seq: int, desired: int = 0) -> bytes:
    """The answer to events alone."""
    return encode(Ack(outbox_id=ID, seq=seq, desired_version=desired))


def batches(commands: list[Command]) -> list[TelemetryBatch]:
    sent = [c for c in commands if isinstance(c, Publish) and c.topic == EVENTS]
    return [decode(c.payload, TelemetryBatch) for c in sent]


def hellos(commands: list[Command]) -> int:
    return sum(isinstance(c, Publish) and c.topic == HELLO for c in commands)


def at_rest(frame: Frame) -> bool:
    """Whether nothing is due but the next greeting, hours from now."""
    return frame.session.deadline is not None and frame.session.deadline > HELLO_AGAIN_S / 2


def test_a_frame_that_stays_connected_greets_again_after_hours() -> None:
    frame = Frame()
    frame.session.connected(0.0)
    frame.session.received(ACK, ack(), 0.1)
    first = frame.session.deadline
    assert first is not None
    for hour in range(1, 4):  # telemetry goes on and puts nothing off
        frame.session.received(ACK, events_ack(seq=0), hour * 3_600.0)
    assert frame.session.deadline == first
    assert hellos(frame.session.tick(first)) == 1
    frame.session.received(ACK, ack(), first + 0.1)
    assert frame.session.deadline is not None
    assert frame.session.deadline > first + HELLO_AGAIN_S / 2


def test_a_greeting_out_of_turn_puts_off_nothing_and_needs_a_connection() -> None:
    frame = Frame()
    assert frame.session.greet() == []
    frame.session.connected(0.0)
    frame.session.received(ACK, ack(), 0.1)
    due = frame.session.deadline
    assert hellos(frame.session.greet()) == 1
    assert frame.session.deadline == due


def test_hello_is_repeated_with_backoff_until_an_ack_answers() -> None:
    frame = Frame()
    commands = frame.session.connected(0.0)
    assert commands[:2] == [Subscribe(DESIRED), Subscribe(ACK)]
    assert hellos(commands) == 1
    assert frame.session.deadline == HELLO_RETRY_S[0]
    assert hellos(frame.session.tick(2.0)) == 1
    assert frame.session.deadline == 2.0 + HELLO_RETRY_S[1]
    frame.session.received(ACK, ack(), 3.0)
    assert at_rest(frame)


def test_a_batch_says_what_the_clock_showed_when_it_was_sent_each_time() -> None:
    frame, times = Frame(), iter([1_000, 2_000])
    session = Session(FRAME, frame.outbox, frame.hello, frame.envelopes.append, lambda: next(times))
    frame.outbox.add()
    session.connected(0.0)
    (first,) = batches(session.wake_up(0.1))
    (again,) = batches(session.tick(0.1 + ACK_TIMEOUT_S))
    assert (first.sent_at, again.sent_at) == (1_000, 2_000)
    assert first.events == again.events
    frame.session.connected(0.0)
    (silent,) = batches(frame.session.wake_up(0.1))
    assert silent.sent_at is UNSET


def test_an_ack_for_events_does_not_answer_a_hello_that_was_lost() -> None:
    frame = Frame()
    frame.outbox.add()
    frame.session.connected(0.0)
    frame.session.wake_up(0.1)
    frame.session.received(ACK, events_ack(seq=1), 0.2)
    assert frame.outbox.events == []
    assert frame.session.deadline == HELLO_RETRY_S[0]
    assert hellos(frame.session.tick(2.0)) == 1
    frame.session.received(ACK, ack(seq=1), 2.1)
    assert at_rest(frame)


def test_every_connection_says_hello_until_it_is_answered_there() -> None:
    frame = Frame()
    frame.session.connected(0.0)
    frame.session.received(ACK, ack(), 0.1)
    frame.session.disconnected()
    assert hellos(frame.session.connected(10.0)) == 1
    frame.session.received(ACK, events_ack(seq=0), 10.1)
    assert frame.session.deadline == 10.0 + HELLO_RETRY_S[0]


def test_a_frame_that_missed_its_desired_state_subscribes_again() -> None:
    frame = Frame()
    frame.session.connected(0.0)
    frame.session.received(ACK, ack(), 0.1)
    frame.session.received(ACK, events_ack(seq=0, desired=4), 10.0)
    assert frame.session.deadline == 10.0 + DESIRED_PATIENCE_S
    again = frame.session.tick(12.0)
    assert again[:2] == [Unsubscribe(DESIRED), Subscribe(DESIRED)]
    assert hellos(again) == 1
    frame.session.received(DESIRED, b"envelope", 12.1)
    frame.version = 4
    frame.session.received(ACK, ack(desired=4), 12.2)
    assert frame.envelopes == [b"envelope"]
    assert at_rest(frame)


def test_events_are_kept_until_the_committed_watermark_covers_them() -> None:
    frame = Frame()
    for _ in range(5):
        frame.outbox.add()
    frame.session.connected(0.0)
    assert [event.seq for event in batches(frame.session.received(ACK, ack(), 0.1))[0].events] == [1, 2, 3]
    assert frame.session.wake_up(0.2) == []
    assert len(frame.outbox.events) == 5
    assert [event.seq for event in batches(frame.session.received(ACK, ack(seq=3), 0.3))[0].events] == [4, 5]
    frame.session.received(ACK, ack(seq=5), 0.4)
    assert frame.outbox.events == []
    assert at_rest(frame)


def test_a_batch_without_ack_is_sent_again() -> None:
    frame = Frame()
    frame.outbox.add()
    frame.session.connected(0.0)
    first = batches(frame.session.wake_up(0.0))
    frame.session.received(ACK, ack(outbox_id="f" * 32), 1.0)
    assert batches(frame.session.tick(ACK_TIMEOUT_S)) == first


def test_an_ack_for_a_former_outbox_deletes_nothing() -> None:
    frame = Frame()
    frame.outbox.add()
    frame.session.connected(0.0)
    frame.session.received(ACK, ack(seq=99, outbox_id="f" * 32), 1.0)
    assert len(frame.outbox.events) == 1


def test_garbage_and_foreign_topics_change_nothing() -> None:
    frame = Frame()
    frame.session.connected(0.0)
    assert frame.session.received(ACK, b"{", 0.1) == []
    assert frame.session.received("repo/head", b"{}", 0.1) == []
    assert frame.session.received(DESIRED, b"", 0.1) == []
    assert frame.envelopes == []


class LossyWorld(RuleBasedStateMachine):
    """Backend and connection fail in any order; every event is committed once and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = Frame()
        self.now = 0.0
        self.online = False
        self.wire: list[TelemetryBatch] = []
        self.committed: list[int] = []
        self.hello_on_wire = False
        self.greeted = True
        """Whether a hello of this connection came in and the frame knows."""

    def carry(self, commands: list[Command]) -> None:
        self.wire += batches(commands)
        self.hello_on_wire = self.hello_on_wire or hellos(commands) > 0

    @rule()
    def record(self) -> None:
        self.frame.outbox.add()
        self.carry(self.frame.session.wake_up(self.now))

    @rule()
    def connect(self) -> None:
        self.online = True
        self.hello_on_wire = self.greeted = False
        self.carry(self.frame.session.connected(self.now))

    @rule()
    def disconnect(self) -> None:
        self.online = False
        self.frame.session.disconnected()

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.carry(self.frame.session.tick(self.now))

    @precondition(lambda self: self.wire)
    @rule(answer=st.booleans(), again=st.booleans())
    def backend_commits(self, answer: bool, again: bool) -> None:
        batch = self.wire[0] if again else self.wire.pop(0)
        self.committed += [event.seq for event in batch.events if event.seq > (self.committed or [0])[-1]]
        if answer and self.online:
            self.carry(self.frame.session.received(ACK, events_ack(seq=self.committed[-1]), self.now))

    @precondition(lambda self: self.hello_on_wire)
    @rule(lost=st.booleans())
    def hello_comes_in_or_not(self, lost: bool) -> None:
        self.hello_on_wire = False
        if self.online and not lost:
            self.greeted = True
            self.carry(self.frame.session.received(ACK, ack(seq=(self.committed or [0])[-1]), self.now))

    @precondition(lambda self: self.online and not self.greeted)
    @rule()
    def an_unanswered_hello_is_said_again_within_a_minute(self) -> None:
        self.now += HELLO_RETRY_S[-1]
        commands = self.frame.session.tick(self.now)
        assert hellos(commands) == 1
        self.carry(commands)

    @precondition(lambda self: self.wire)
    @rule()
    def wire_loses_a_batch(self) -> None:
        self.wire.pop(0)

    @invariant()
    def nothing_uncommitted_is_deleted_and_nothing_is_skipped(self) -> None:
        assert self.committed == list(range(1, len(self.committed) + 1))
        waiting = [event.seq for event in self.frame.outbox.events]
        assert waiting == list(range(self.frame.outbox.next_seq - len(waiting), self.frame.outbox.next_seq))
        assert self.frame.outbox.next_seq - len(waiting) - 1 <= len(self.committed)


TestLossyWorld = LossyWorld.TestCase
TestLossyWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
