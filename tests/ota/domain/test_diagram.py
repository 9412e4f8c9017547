"""The page of diagrams says what the tables say."""

from pathlib import Path

from ota.domain.actions import Action
from ota.domain.diagram import WORDS, deployment_diagram, page, rollout_diagram
from ota.domain.rollout import TRANSITIONS


def test_the_page_in_docs_is_the_one_the_tables_make() -> None:
    docs = Path(__file__).parents[3] / "docs" / "rollout-states.md"
    assert docs.read_text() == page(), "run python -m ota.domain.diagram > docs/rollout-states.md"


def test_every_action_has_a_word_and_every_transition_a_line() -> None:
    assert set(WORDS) == set(Action.__args__)
    assert len(rollout_diagram().splitlines()) == 2 + len(TRANSITIONS)
    assert "paused --> running: resume" in rollout_diagram()
    assert "dark --> committed" in deployment_diagram()
    assert "returned --> " not in deployment_diagram()
