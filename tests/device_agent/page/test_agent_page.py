"""docs/agent.md says what the code does."""

import re
from pathlib import Path

import pytest

from device_agent.failures import PASSING
from device_agent.installer.diagram import WORDS, diagram, written
from device_agent.installer.events import Event
from device_agent.installer.machine import SAME, TRANSITIONS
from protocol.errors import Reason

PAGE = Path(__file__).parents[3] / "docs" / "agent.md"
carried = pytest.mark.skipif(not PAGE.exists(), reason="the agent alone carries no docs")


@carried
def test_the_diagram_in_docs_is_the_one_the_table_makes() -> None:
    page = PAGE.read_text()
    assert page == written(page), "run python -m device_agent.installer.diagram"
    assert diagram() in page


@carried
def test_every_reason_has_a_row_that_says_whether_the_frame_tries_again() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| (yes|no) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(reason.value, "yes" if reason in PASSING else "no") for reason in Reason]


def test_every_transition_is_drawn() -> None:
    assert set(WORDS) == set(Event.__args__)
    lines = diagram().splitlines()
    for state, row in TRANSITIONS.items():
        for event, to in row.items():
            drawn = [f"    {start} --> {to}: {WORDS[event]}" in lines for start in (state, "any")]
            assert sum(drawn) == 1 or to in (SAME, state), f"{state} --> {to} is drawn {sum(drawn)} times"
    assert "    probation --> committed: 3 playbacks or 24 healthy hours" in lines


def test_a_page_without_its_marks_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="marks"):
        written("# The agent\n")
