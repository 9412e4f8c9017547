"""A fix that helps one cohort and hurts the others, on running agents: golden clips stop it where limits cover those
it hurts, and nothing else does where they do not. That is what the gray release is for."""

from typing import Any

import pytest

from device_agent.adapters import rebind
from protocol.chunks import sha256_hex
from protocol.errors import Reason
from protocol.messages import Complaint, HealthEvent
from tests.device_agent.live import FRAME, Backend, LiveAgent, until
from tests.device_agent.repository import Published, Repository, desired
from tests.reference_model.artifacts import BUNDLE, CARELESS, with_manifest

pytestmark = pytest.mark.slow

FILMS = 3
"""What commits a release by default."""


def install(agent: LiveAgent, backend: Backend, repository: Repository, version: int, release: Published) -> None:
    backend.put(repository.retained)
    backend.assign(FRAME, version, repository.envelope(desired(FRAME, version, release)))
    if agent.process is None:
        agent.start("--sink", "none")


def reported(backend: Backend, version: int, *states: str) -> bool:
    return bool(backend.reports) and (
        backend.reports[-1].desired_version == version and backend.reports[-1].state in states
    )


def prove(agent: LiveAgent, backend: Backend, version: int) -> None:
    """Play until the release on probation is committed."""
    asked = agent.lay_out_media()
    until(lambda: "playbacks" in backend.reports[-1].figures if reported(backend, version, "trial") else False)
    for played in range(FILMS):
        assert backend.reports[-1].state == "trial", f"committed after {played} films"
        assert agent.ask("/play", asked)[0] == 200
        until(lambda played=played: backend.reports[-1].figures.get("playbacks", FILMS) > played)  # type: ignore[misc]
    until(lambda: reported(backend, version, "committed"))


def test_golden_clips_stop_it_where_the_limits_cover_whom_it_hurts(
    agent: LiveAgent, backend: Backend, repository: Repository
) -> None:
    base = repository.base(BUNDLE.read_bytes())
    good = repository.release("portrait", "1.0", [base])
    install(agent, backend, repository, 1, good)
    prove(agent, backend, 1)

    careless = repository.release("portrait", "1.1", [base, repository.adapter(CARELESS.read_bytes(), base)])
    install(agent, backend, repository, 2, careless)
    until(lambda: reported(backend, 2, "reverted"))
    report = backend.reports[-1]
    assert (report.release, report.target) == (good.release.sha256, careless.release.sha256)
    assert report.failure is not None
    assert report.failure.reason is Reason.TRIAL_FAILED
    assert "lip error on base is" in report.failure.detail
    lips = {part.segment: part for part in report.lip_errors}
    assert lips["base"].limit_mm is not None
    assert lips["base"].lip_mm > lips["base"].limit_mm
    assert lips["mandarin"].lip_mm < 0.36, "it is a good fix for those it was made for"
    assert {"step_p50_ms", "step_p99_ms", "memory_mb"} <= report.figures.keys()
    asked = agent.lay_out_media()
    assert agent.ask("/play", asked)[0] == 200
    assert agent.ask("/status")[1]["release_name"] == "portrait 1.0"


def test_nothing_stops_it_where_they_do_not(agent: LiveAgent, backend: Backend, repository: Repository) -> None:
    def without_limits(manifest: dict[str, Any]) -> None:
        limits = manifest["golden"]["limits"]["lip_mm"]
        limits.update({segment: None for segment in limits if segment != "mandarin"})

    bundle = with_manifest(without_limits)
    base = repository.base(bundle)
    adapter = rebind(CARELESS.read_bytes(), sha256_hex(bundle))
    release = repository.release("portrait", "1.0", [base, repository.adapter(adapter, base)])
    install(agent, backend, repository, 1, release)
    prove(agent, backend, 1)
    report = backend.reports[-1]
    assert (report.release, report.failure) == (release.release.sha256, None)
    lips = {part.segment: part for part in report.lip_errors}
    assert lips["base"].lip_mm > 0.45, "measured and reported all the same"
    assert lips["base"].limit_mm is None
    told = [event for event in backend.events.values() if isinstance(event, HealthEvent | Complaint)]
    assert told == []
