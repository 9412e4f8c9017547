"""The whole way over Mosquitto, with the real agent and bridge: hello, DesiredState, chunks, trial, report. Over NATS
the end-to-end tests go it."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.models import Frame, ReportedState
from ota.models import DesiredState, RetainedObject
from tests.brokers.bridge import RunningBridge
from tests.brokers.world import Credential, World, wait_for
from tests.device_agent.live import LiveAgent
from tests.device_agent.repository import Repository, desired
from tests.fleet.factories import make_frame
from tests.services import IssuedCertificate

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

BUNDLE = Path(__file__).parents[2] / "reference_model" / "artifacts" / "talking-portrait-1.0.bundle"


class Handle:
    """The broker as ``LiveAgent`` wants it."""

    def __init__(self, world: World, credential: Credential) -> None:
        self.url = world.broker.url
        self.ca = world.folder / "ca.pem"
        self._credential = credential

    def client(self, identity: str) -> IssuedCertificate:
        assert identity == self._credential.identity
        return IssuedCertificate(self._credential.cert, self._credential.key)


def publish(repository: Repository) -> None:
    """Into the tables from which the bridge publishes."""
    for topic, payload in repository.retained.items():
        order = RetainedObject.Order.CHUNK if "/chunk/" in topic else RetainedObject.Order.DOCUMENT
        order = RetainedObject.Order.HEAD if topic == "repo/head" else order
        RetainedObject.objects.create(topic=topic, order=order, payload=payload, length=len(payload))


@pytest.mark.parametrize("running", ["mosquitto"], indirect=True, scope="module")
def test_an_agent_installs_a_release(world: World, bridge: RunningBridge, tmp_path: Path) -> None:
    (credential,) = world.admit("wall")
    make_frame("wall")
    repository = Repository()
    release = repository.release("talking-portrait", "1.0", [repository.base(BUNDLE.read_bytes())])
    publish(repository)
    now = datetime.now(UTC)
    DesiredState.objects.create(
        frame_id="wall",
        version=1,
        envelope=repository.envelope(desired("wall", 1, release)),
        issued_at=now,
        expires_at=now + timedelta(days=1),
    )
    agent = LiveAgent(tmp_path / "frame", Handle(world, credential), "wall", repository.anchors())  # type: ignore[arg-type]
    agent.start("--sink", "none")
    try:

        def proved() -> bool:
            report = ReportedState.objects.filter(pk="wall").first()
            return report is not None and report.target == release.release.sha256 and bool(report.lip_errors)

        assert wait_for(proved, 60), (agent.log.read_text()[-2000:], ReportedState.objects.values())
        assert Frame.objects.get(pk="wall").desired_version == 1
        assert ReportedState.objects.get(pk="wall").failure_reason == ""
    finally:
        agent.stop()
        shutil.rmtree(agent.folder / "store", ignore_errors=True)
    text = agent.log.read_text()
    assert "Traceback" not in text
