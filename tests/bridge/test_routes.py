"""What each message means, and that one that cannot be stored harms no other."""

import pytest
from django.db import OperationalError, ProgrammingError, connection
from msgspec import UNSET

from bridge.inbox import Message
from bridge.routes import Answer, Work, perform
from fleet.models import Frame, HealthEvent, Playback
from protocol import messages
from protocol.codec import decode, encode
from protocol.topics import frame_topic
from tests.fleet.factories import OUTBOX, batch, hello, make_frame, playback

pytestmark = pytest.mark.django_db


def _work(*come: tuple[str, messages.Message]) -> Work:
    kinds = {messages.Hello: "hello", messages.ReportedState: "reported", messages.TelemetryBatch: "events"}
    work = Work()
    for number, (frame_id, message) in enumerate(come):
        topic = frame_topic(frame_id, kinds[type(message)])  # type: ignore[arg-type]
        work.add(Message(topic, encode(message), number, 1))
    return work


def _acks(answers: list[Answer]) -> dict[str, messages.Ack]:
    return {answer.topic.split("/")[2]: decode(answer.payload, messages.Ack) for answer in answers}


def test_a_hello_and_events_of_one_outbox_are_answered_once() -> None:
    make_frame()
    answers = perform(_work(("frame-1", hello()), ("frame-1", batch(playback(4))), ("frame-1", batch(playback(9)))))
    assert len(answers) == 1
    assert _acks(answers) == {"frame-1": messages.Ack(outbox_id=OUTBOX, seq=9, desired_version=0, hello=True)}


def test_events_alone_are_not_taken_for_a_hello() -> None:
    make_frame()
    answers = perform(_work(("frame-1", batch(playback(4)))))
    assert _acks(answers) == {"frame-1": messages.Ack(outbox_id=OUTBOX, seq=4, desired_version=0)}
    answers = perform(_work(("frame-1", hello(outbox_id="f" * 32)), ("frame-1", batch(playback(5)))))
    assert {ack.outbox_id: ack.hello for answer in answers for ack in _acks([answer]).values()} == {
        OUTBOX: UNSET,
        "f" * 32: True,
    }


def test_the_newest_of_several_hellos_counts() -> None:
    make_frame()
    answers = perform(_work(("frame-1", hello(desired_version=1)), ("frame-1", hello(desired_version=2))))
    assert len(answers) == 1
    assert Frame.objects.get().desired_version == 2


def test_nothing_is_done_for_nothing() -> None:
    assert perform(Work()) == []


@pytest.mark.parametrize(
    "topic", ["frames/1/frame-1/hello", "frames/x/y", "repo/head", frame_topic("frame-1", "ack"), "frames/0/../hello"]
)
def test_a_topic_that_is_no_frames_own_is_dropped(topic: str) -> None:
    work = Work()
    work.add(Message(topic, encode(hello()), 1, 1))
    assert work == Work()


def test_a_message_in_anothers_name_is_noted_on_the_frame_that_sent_it() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    assert perform(_work(("frame-1", hello("frame-2")))) == []
    assert HealthEvent.objects.get().frame_id == "frame-1"
    assert not Frame.objects.filter(last_seen__isnull=False).exists()


def test_one_message_that_cannot_be_stored_harms_no_other() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE fleet_playback ADD CONSTRAINT never CHECK (frame_id <> 'frame-1')")
    answers = perform(
        _work(
            ("frame-1", batch(playback(1), frame_id="frame-1")),
            ("frame-2", batch(playback(1), frame_id="frame-2")),
            ("frame-1", hello("frame-1")),
        )
    )
    assert {frame_id: ack.seq for frame_id, ack in _acks(answers).items()} == {"frame-1": 0, "frame-2": 1}
    assert Playback.objects.get().frame_id == "frame-2"


def test_what_the_database_is_to_blame_for_is_not_dropped() -> None:
    make_frame()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE fleet_playback RENAME TO elsewhere")
    with pytest.raises((OperationalError, ProgrammingError)):
        perform(_work(("frame-1", batch(playback(1)))))
