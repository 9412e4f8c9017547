"""FrameGroups: a query means the frames that match it now."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fleet.contexts import context_text, context_words
from fleet.groups import frames_in, frames_matching, parse_query
from fleet.models import AuditEntry, ContextDay, Frame, FrameGroup
from fleet.services.groups import NameTaken, create_group
from fleet.services.reports import record_reported
from protocol.errors import Refused
from protocol.messages import CONTEXTS
from tests.fleet.factories import make_frame, reported


@pytest.mark.parametrize(
    ("query", "conditions"),
    [
        ("", {}),
        (" , ", {}),
        ("locale=zh", {"locale": ["zh"]}),
        ("locale = zh , simulated=TRUE", {"locale": ["zh"], "simulated": [True]}),
        ("id=a,id=b,hardware=rk3588", {"id": ["a", "b"], "hardware": ["rk3588"]}),
    ],
)
def test_a_query_reads_as_terms(query: str, conditions: dict[str, list[str | bool]]) -> None:
    assert parse_query(query) == conditions


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("zh", "'zh' is no term of a query: write key=value, such as locale=zh."),
        ("locale=", "'locale=' is no term of a query: write key=value, such as locale=zh."),
        (
            "colour=red",
            "A group cannot ask for 'colour': use locale, hardware, simulated, id, site, timezone, agent, release, "
            "pose, loudness, runtime.",
        ),
        ("timezone=Mars/Olympus", "'Mars/Olympus' is no time zone: use an IANA name such as Asia/Shanghai."),
        ("pose=upside-down", "pose=upside-down is unknown: use frontal, turned."),
        ("simulated=maybe", "simulated=maybe is neither simulated=true nor simulated=false."),
        ("id=Frame_1", "'Frame_1' is no frame id: use 1 to 40 of a-z, 0-9 and '-'."),
        ("locale=z\0h", "A group's query must not hold a NUL character."),
        ("x" * 501, "A group's query has at most 500 characters, not 501."),
    ],
)
def test_a_wrong_query_is_refused_with_one_sentence(query: str, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_query(query)
    assert refused.value.detail == sentence


@pytest.mark.django_db
def test_different_keys_must_all_hold_and_one_key_may_have_several_values() -> None:
    make_frame("a", locale="zh", simulated=True)
    make_frame("b", locale="zh")
    make_frame("c", locale="en")

    def ids(query: str) -> list[str]:
        return [frame.id for frame in frames_matching(query)]

    assert ids("") == ["a", "b", "c"]
    assert ids("locale=zh") == ["a", "b"]
    assert ids("locale=zh,simulated=true") == ["a"]
    assert ids("id=a,id=c,id=nobody") == ["a", "c"]
    assert ids("hardware=other") == []


@pytest.mark.django_db
def test_a_group_is_evaluated_whenever_it_is_asked() -> None:
    group = create_group(" mandarin ", "locale=zh", "alice")
    assert not frames_in(group).exists()
    make_frame("a", locale="zh")
    assert frames_in(group).get().id == "a"
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.subject) == ("alice", "create_group", "mandarin")


@pytest.mark.django_db
def test_a_name_serves_one_group() -> None:
    create_group("mandarin", "locale=zh", "alice")
    with pytest.raises(NameTaken, match="There is a group 'mandarin' already"):
        create_group("mandarin", "", "alice")
    for name in ("", " ", "x" * 65, "a\nb"):
        with pytest.raises(Refused, match="A group needs a name"):
            create_group(name, "", "alice")
    assert FrameGroup.objects.count() == 1


@pytest.mark.django_db
def test_a_group_may_ask_where_frames_hang_and_what_they_run() -> None:
    for number, name in enumerate(("a", "b", "c")):
        make_frame(name)
        record_reported(name, msgspec.structs.replace(reported(name), release=str(number) * 64))
    Frame.objects.filter(pk="a").update(site="tower-1", timezone="Asia/Shanghai", agent_version="2.0")
    Frame.objects.filter(pk="b").update(timezone="Asia/Shanghai")

    def ids(query: str) -> list[str]:
        return [frame.id for frame in frames_matching(query)]

    assert ids("site=tower-1") == ids("agent=2.0") == ["a"]
    assert ids("timezone=Asia/Shanghai") == ["a", "b"]
    assert ids("release=11111111") == ["b"]
    assert ids(f"release={'2' * 64},release=00000000") == ["a", "c"]
    with pytest.raises(Refused, match=r"There is no release .portrait 9\.9."):
        ids("release=portrait 9.9")


@pytest.mark.django_db
def test_a_context_means_frames_with_at_least_half_of_their_playbacks_in_it() -> None:
    now = datetime(2026, 3, 30, 12, tzinfo=UTC)

    def played(frame_id: str, count: int, context: str, days_ago: int = 0) -> None:
        day = now.date() - timedelta(days=days_ago)
        ContextDay.objects.create(frame_id=frame_id, day=day, context=context, playbacks=count)

    for name in ("half", "less", "long-ago", "never-told", "none"):
        make_frame(name)
    played("half", 3, "loudness=quiet pose=turned")
    played("half", 3, "loudness=quiet pose=frontal", days_ago=27)
    played("less", 3, "pose=turned")
    played("less", 4, "pose=frontal")
    played("long-ago", 9, "pose=turned", days_ago=29)
    played("long-ago", 1, "loudness=normal pose=frontal")
    played("never-told", 5, "loudness=loud")

    def ids(query: str) -> list[str]:
        return [frame.id for frame in frames_matching(query, now)]

    assert ids("pose=turned") == ["half"]
    assert ids("pose=frontal") == ["half", "less", "long-ago"]
    assert ids("pose=frontal,pose=turned") == ["half", "less", "long-ago"]
    assert ids("pose=frontal,loudness=quiet") == ["half"]


def test_no_word_of_a_context_is_part_of_another() -> None:
    words = [f"{key}={value}" for key, values in CONTEXTS.items() for value in values]
    assert not [(one, other) for one in words for other in words if one != other and one in other]
    assert all(context_words(context_text({key: values[0]})) == {key: values[0]} for key, values in CONTEXTS.items())
