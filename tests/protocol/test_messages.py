"""Messages keep their bytes: what is on walls today must be read by tomorrow's backend, and the other way round."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages as m
from protocol.codec import decode, encode
from protocol.envelope import Envelope, Signature, signed_bytes
from protocol.errors import Reason, Refused
from protocol.limits import MAX_EVENTS_PER_BATCH, MAX_MESSAGE

ID = "0123456789abcdef0123456789abcdef"
SHA = "ab" * 32
AT = 1_760_000_000_000

GOLDEN: list[tuple[msgspec.Struct, bytes]] = [
    (
        m.Hello(frame_id="f-1", agent_version="0.1.0", hardware="rk3588", locale="zh", desired_version=7, outbox_id=ID),
        b'{"v":1,"frame_id":"f-1","agent_version":"0.1.0","hardware":"rk3588","locale":"zh","desired_version":7,'
        b'"outbox_id":"0123456789abcdef0123456789abcdef","release":null}',
    ),
    (
        m.DesiredState(
            frame_id="f-1",
            version=3,
            issued_at=AT,
            expires_at=AT + 1,
            release=m.TargetRef("release/talking-portrait-1.1.json", 512, SHA),
            targets=[m.TargetRef("lora/mandarin-1.1.adapter", 190_000, SHA)],
        ),
        b'{"v":1,"frame_id":"f-1","version":3,"issued_at":1760000000000,"expires_at":1760000000001,"release":'
        b'{"path":"release/talking-portrait-1.1.json","length":512,"sha256":"' + SHA.encode() + b'"},"targets":'
        b'[{"path":"lora/mandarin-1.1.adapter","length":190000,"sha256":"' + SHA.encode() + b'"}]}',
    ),
    (
        m.ReportedState(
            frame_id="f-1",
            journal_id=ID,
            sequence=9,
            at=AT,
            agent_version="0.1.0",
            state="reverted",
            desired_version=3,
            slot="A",
            failure=m.Failure(Reason.TRIAL_FAILED, "Lips missed the voice."),
            lip_errors=[m.LipError("base", 0.3, 1.3, 0.45)],
            figures={"memory_mb": 210.0},
        ),
        b'{"v":1,"frame_id":"f-1","journal_id":"0123456789abcdef0123456789abcdef","sequence":9,"at":1760000000000,'
        b'"agent_version":"0.1.0","state":"reverted","desired_version":3,"release":null,"slot":"A","target":null,'
        b'"failure":{"reason":"trial_failed","detail":"Lips missed the voice."},'
        b'"lip_errors":[{"segment":"base","lip_mm":0.3,"mean_pose_mm":1.3,"limit_mm":0.45}],"figures":{"memory_mb":210.0}}',
    ),
    (
        m.TelemetryBatch(
            frame_id="f-1",
            outbox_id=ID,
            events=[
                m.PlaybackEvent(
                    seq=1,
                    at=AT,
                    playback_id=ID,
                    mode="talking",
                    voice_s=4.7,
                    video_s=4.72,
                    watched_s=2,
                    completed=False,
                ),
                m.Complaint(seq=2, at=AT, release=SHA, playback_id=ID),
                m.PowerSample(seq=3, at=AT, window_s=60, total_w=4.8, npu_w=3.1, cpu_w=1.7, battery_percent=80),
                m.HealthEvent(
                    seq=5, at=AT, kind="outbox_gap", detail="1 power sample dropped.", figures={"dropped": 1}
                ),
            ],
        ),
        b'{"v":1,"frame_id":"f-1","outbox_id":"0123456789abcdef0123456789abcdef","events":['
        b'{"type":"playback","seq":1,"at":1760000000000,"release":null,"playback_id":"0123456789abcdef0123456789abcdef",'
        b'"mode":"talking","voice_s":4.7,"video_s":4.72,"watched_s":2,"completed":false,"first_frame_ms":null,"fps":null},'
        b'{"type":"complaint","seq":2,"at":1760000000000,"release":"' + SHA.encode() + b'",'
        b'"playback_id":"0123456789abcdef0123456789abcdef","kind":"lips"},'
        b'{"type":"power","seq":3,"at":1760000000000,"release":null,"window_s":60,"total_w":4.8,"npu_w":3.1,"cpu_w":1.7,'
        b'"battery_percent":80,"estimated":false},'
        b'{"type":"health","seq":5,"at":1760000000000,"release":null,"kind":"outbox_gap",'
        b'"detail":"1 power sample dropped.","figures":{"dropped":1}}]}',
    ),
    (
        m.TelemetryBatch(
            frame_id="f-1",
            outbox_id=ID,
            sent_at=AT + 1,
            events=[
                m.PlaybackEvent(
                    seq=1,
                    at=AT,
                    playback_id=ID,
                    mode="talking",
                    voice_s=4.7,
                    video_s=4.72,
                    watched_s=2,
                    completed=False,
                    context={"loudness": "quiet", "pose": "turned"},
                )
            ],
        ),
        b'{"v":1,"frame_id":"f-1","outbox_id":"0123456789abcdef0123456789abcdef","sent_at":1760000000001,"events":['
        b'{"type":"playback","seq":1,"at":1760000000000,"release":null,"playback_id":"0123456789abcdef0123456789abcdef",'
        b'"mode":"talking","voice_s":4.7,"video_s":4.72,"watched_s":2,"completed":false,"first_frame_ms":null,"fps":null,'
        b'"context":{"loudness":"quiet","pose":"turned"}}]}',
    ),
    (
        m.Ack(outbox_id=ID, seq=5, desired_version=3),
        b'{"v":1,"outbox_id":"0123456789abcdef0123456789abcdef","seq":5,"desired_version":3}',
    ),
    (
        m.Ack(outbox_id=ID, seq=0, desired_version=3, hello=True),
        b'{"v":1,"outbox_id":"0123456789abcdef0123456789abcdef","seq":0,"desired_version":3,"hello":true}',
    ),
    (m.RepoHead(root=1, timestamp=12, director_root=1), b'{"v":1,"root":1,"timestamp":12,"director_root":1}'),
    (
        Envelope("application/x", b'{"a":1}', [Signature("k", bytes(64))]),
        b'{"payloadType":"application/x","payload":"eyJhIjoxfQ==","signatures":[{"keyid":"k","sig":"'
        + b"A" * 86
        + b'=="}]}',
    ),
]


@pytest.mark.parametrize(("message", "data"), GOLDEN, ids=[type(message).__name__ for message, _ in GOLDEN])
def test_the_bytes_on_the_wire_never_change(message: msgspec.Struct, data: bytes) -> None:
    assert encode(message) == data
    assert decode(data, type(message)) == message


@pytest.mark.parametrize(("message", "data"), GOLDEN[:8], ids=[type(message).__name__ for message, _ in GOLDEN[:8]])
def test_fields_of_a_newer_version_are_tolerated(message: msgspec.Struct, data: bytes) -> None:
    assert decode(data[:-1] + b',"added_later":{"x":[1,2]}}', type(message)) == message


@pytest.mark.parametrize(("message", "data"), GOLDEN[:8], ids=[type(message).__name__ for message, _ in GOLDEN[:8]])
def test_another_meaning_of_the_message_is_refused(message: msgspec.Struct, data: bytes) -> None:
    with pytest.raises(Refused, match=f"Not a valid {type(message).__name__}"):
        decode(data.replace(b'"v":1', b'"v":2', 1), type(message))


@given(st.binary(max_size=300), st.sampled_from([type(message) for message, _ in GOLDEN]))
def test_any_bytes_decode_or_are_refused_in_one_sentence(data: bytes, kind: type[msgspec.Struct]) -> None:
    try:
        decode(data, kind)
    except Refused as refusal:
        assert refusal.reason is Reason.BAD_MESSAGE
        assert refusal.detail.endswith(".")


@given(st.data(), st.sampled_from(GOLDEN))
def test_a_damaged_message_is_decoded_or_refused(data: st.DataObject, golden: tuple[msgspec.Struct, bytes]) -> None:
    message, good = golden
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:at] + data.draw(st.binary(max_size=3)) + good[at + data.draw(st.integers(0, 40)) :]
    try:
        decode(damaged, type(message))
    except Refused as refusal:
        assert refusal.reason is Reason.BAD_MESSAGE


def test_deeply_nested_json_is_refused_and_not_a_crash() -> None:
    with pytest.raises(Refused):
        decode(b'{"v":1,"x":' + b"[" * 60_000, m.Ack)


def test_an_oversized_message_is_refused_on_both_sides() -> None:
    with pytest.raises(Refused, match="exceeds the limit"):
        decode(b" " * (MAX_MESSAGE + 1), m.Ack)
    event = m.HealthEvent(seq=1, at=AT, kind="k", detail="x" * 500)
    with pytest.raises(ValueError, match="send less at once"):
        encode(m.TelemetryBatch(frame_id="f", outbox_id=ID, events=[event] * MAX_EVENTS_PER_BATCH))


@pytest.mark.parametrize("frame_id", ["F", "a\n", "a/b", "", "a" * 41])
def test_a_payload_cannot_smuggle_an_odd_frame_id(frame_id: str) -> None:
    good = msgspec.to_builtins(GOLDEN[0][0])
    with pytest.raises(Refused):
        decode(msgspec.json.encode(good | {"frame_id": frame_id}), m.Hello)


def test_a_signature_covers_the_type_and_the_exact_bytes() -> None:
    assert signed_bytes("a/b", b"{}") == b"DSSEv1 3 a/b 2 {}"
    assert signed_bytes("a", b"b c") != signed_bytes("a b", b"c")


@pytest.mark.parametrize(
    "context",
    [{f"key{n}": "word" for n in range(9)}, {"pose": "Turned aside"}, {"pose": ""}, {"pose": "x" * 25}, {"a b": "c"}],
)
def test_a_context_is_a_few_short_words(context: dict[str, str]) -> None:
    playback = m.PlaybackEvent(
        seq=1, at=AT, playback_id=ID, mode="talking", voice_s=1, video_s=1, watched_s=1, completed=True, context=context
    )
    with pytest.raises(Refused):
        decode(msgspec.json.encode(m.TelemetryBatch(frame_id="f", outbox_id=ID, events=[playback])), m.TelemetryBatch)
