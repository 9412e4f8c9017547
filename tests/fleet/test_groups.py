"""FrameGroups: a query means the frames that match it now."""

import pytest

from fleet.groups import frames_in, frames_matching, parse_query
from fleet.models import AuditEntry, FrameGroup
from fleet.services.groups import NameTaken, create_group
from protocol.errors import Refused
from tests.fleet.factories import make_frame


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
