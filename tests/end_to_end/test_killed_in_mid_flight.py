"""`kill -9` of the agent in mid-download, then of the broker, then of the bridge: each resumes, the frame commits the
release, and no event is lost or counted twice. Everything is real: the whole stack under its supervisor."""

import json
import re
from pathlib import Path

import pytest

from protocol.limits import CHUNK_SIZE
from standalone.broker import find_binary
from standalone.demo import BUNDLE, GOOD, NAME
from standalone.postgres import find_binaries
from standalone.stack import Stack
from standalone.supervisor import Supervisor, supervise
from tests.end_to_end.world import World, until
from tests.services import require

pytestmark = pytest.mark.slow

FEW = 5
"""Events that may still wait on frames when they stop: people never stop living."""
EVENT_TABLES = ("fleet_playback", "fleet_complaint", "fleet_powersample", "fleet_healthevent")


def test_each_resumes_the_frame_commits_and_every_event_counts_once(tmp_path: Path) -> None:
    require(find_binaries)
    require(find_binary)
    seen: dict[str, object] = {}

    async def story(supervisor: Supervisor) -> int:
        world = World(Stack.below(tmp_path / "var"), supervisor)
        await world.begin()
        size = BUNDLE.stat().st_size

        rollout = await world.start_rollout("1.0")
        await until(lambda: world.downloaded() > size // 8, 30, "the agent is in mid-download", 0.002)
        world.kill9("agent")
        seen["held_by_agent"] = held = world.downloaded()
        assert 0 < held < size, "the agent was not in mid-download"
        await until(lambda: world.downloaded() > held, 30, "the agent goes on", 0.002)
        world.kill9("broker")
        seen["held_by_broker"] = world.downloaded()
        assert held < world.downloaded() < size, "the broker was not in mid-download"
        await until(lambda: world.downloaded() == 0, 60, "the download is complete")
        world.kill9("bridge")
        for service in ("agent", "broker", "bridge"):
            await world.restarted(service)
        assert await world.ended(rollout) == "succeeded"
        seen["moved"] = [int(moved) for moved in re.findall(r"bundle, (\d+) bytes moved", world.log("agent"))]

        # A second release while events flow, and the bridge dies once more in the middle of it.
        await world.sign("1.1", "--base-release", f"{NAME} 1.0", "--adapter", str(GOOD))
        await world.push("1.1")
        rollout = await world.start_rollout("1.1")
        world.kill9("bridge")
        assert await world.ended(rollout) == "succeeded"
        seen["agent"] = await world.agent_frame()

        await world.drained()
        await supervisor.stop("simulator")
        final = json.loads(world.log("simulator").rpartition("SIMULATOR ")[2])
        # What the frames still hold may be stored already: its acknowledgement was on the way when they stopped.
        seen["made"] = range(final["events"] - final["waiting"], final["events"] + 1)
        seen["lost"] = final["lost"]
        simulated = "where frame_id like 'sim-%'"
        # Health events are told by the frames themselves, not by people, and are counted with theirs.
        seen["rows"] = sum(world.count(f"select count(*) from {table} {simulated}") for table in EVENT_TABLES)
        seen["playbacks"] = world.count(f"select count(*) from fleet_playback {simulated}")
        seen["rolled_up"] = world.count(f"select sum(playbacks) from fleet_frameday {simulated}")
        return 0

    assert supervise(tmp_path / "var", story) == 0
    assert isinstance(seen["agent"], dict)
    assert (seen["agent"]["release_name"], seen["agent"]["state"]) == (f"{NAME} 1.1", "committed")
    assert seen["agent"]["figures"]["playbacks"] == 3
    # What the agent held when it was killed was not fetched again, nor was anything when the broker was.
    assert isinstance(seen["moved"], list)
    assert isinstance(seen["held_by_agent"], int)
    assert 0 < sum(seen["moved"]) <= BUNDLE.stat().st_size - seen["held_by_agent"] + CHUNK_SIZE
    assert seen["lost"] == 0
    assert isinstance(seen["made"], range)
    assert seen["rows"] in seen["made"]
    assert len(seen["made"]) <= FEW, "the outboxes were not empty"
    assert seen["rolled_up"] == seen["playbacks"]
    assert isinstance(seen["playbacks"], int)
    assert seen["playbacks"] > 20
