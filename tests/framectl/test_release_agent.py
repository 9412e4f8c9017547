"""Signing a release that brings an agent."""

import json

import pytest

from device_agent.version import AGENT_VERSION
from framectl.__main__ import main
from framectl.offline import OfflineFolder
from framectl.package import Package
from framectl.signing import INSTALLS_AGENTS
from protocol.chunks import build_index, sha256_hex
from protocol.repository import ArtifactManifest, artifact_manifest
from protocol.versions import older
from tests.framectl.conftest import BASE, Desk, adapter, agent, refused


def sign(desk: Desk, version: str, brings: str, *arguments: str, base: bool = True) -> int:
    """A release with a base model (or on that of 1.0) and this agent."""
    of = ("--base-model", desk.file("base.bundle", BASE)) if base else ("--base-release", "talking-portrait 1.0")
    return desk.sign(version, *of, "--agent", desk.file(f"agent-{brings}.zip", agent(brings)), *arguments)


def test_the_agent_is_signed_by_its_own_role_with_the_version_it_reports(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = ("--adapter", desk.file("1.0.adapter", adapter(BASE)), "--min-agent", "1.9", "--hardware", "rk3588")
    assert sign(desk, "1.0", "2.0", *bound, "--runtime", "onnx") == 0
    assert "It brings agent 2.0." in capsys.readouterr().out
    data = agent("2.0")
    with OfflineFolder.open(desk.offline) as folder:
        target = folder.documents["agent"].signed.targets["agent/talking-portrait-1.0.zip"]
        assert (target.length, target.hashes) == (len(data), {"sha256": sha256_hex(data)})
        assert artifact_manifest(target.custom) == ArtifactManifest(
            kind="agent", index=build_index([data]).root, version="2.0", hardware=["rk3588"], min_agent="0.2.0"
        )
        other = artifact_manifest(folder.documents["lora"].signed.targets["lora/talking-portrait-1.0.adapter"].custom)
        assert (other.version, other.min_agent) == (None, "1.9")
    with Package.open(desk.package("1.0")) as package:
        assert sorted(package.documents) == ["agent", "base", "lora", "release"]
        assert [ref.path.partition("/")[0] for ref in package.manifest.targets] == ["base", "lora", "agent"]
        assert b"".join(package.read(sha256_hex(data))) == data


def test_agents_that_refuse_a_release_with_one_are_told_so(desk: Desk) -> None:
    """Also where base model and adapter ask for nothing, and whichever agent comes."""
    assert not older(AGENT_VERSION, INSTALLS_AGENTS)
    assert sign(desk, "1.0", "2.0") == 0
    with OfflineFolder.open(desk.offline) as folder:
        (target,) = folder.documents["agent"].signed.targets.values()
        assert artifact_manifest(target.custom).min_agent == INSTALLS_AGENTS
        (base,) = folder.documents["base"].signed.targets.values()
        assert artifact_manifest(base.custom).min_agent == "0"


def test_a_fix_on_a_release_that_brought_an_agent_leaves_frames_the_one_they_run(desk: Desk) -> None:
    assert sign(desk, "1.0", "2.0") == 0
    assert desk.sign_adapter("1.1") == 0
    with Package.open(desk.package("1.1")) as package:
        assert [ref.path.partition("/")[0] for ref in package.manifest.targets] == ["base", "lora"]


def test_the_same_agent_again_is_listed_under_its_first_name(desk: Desk) -> None:
    assert sign(desk, "1.0", "2.0") == 0
    assert sign(desk, "1.1", "2.0", base=False) == 0
    with Package.open(desk.package("1.1")) as package:
        assert [ref.path for ref in package.manifest.targets][1:] == ["agent/talking-portrait-1.0.zip"]
        assert not package.artifacts


def test_what_needs_a_newer_agent_than_the_release_brings_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    before = desk.metadata()
    capsys.readouterr()
    said = refused(capsys, sign(desk, "1.0", "2.0", "--min-agent", "2.1"))
    assert "--min-agent asks for agent 2.1 and" in said
    assert "agent-2.0.zip is agent 2.0, so no frame could run this release" in said
    assert desk.metadata() == before
    assert not desk.package("1.0").exists()


def test_so_is_an_earlier_base_model_that_needs_a_newer_one(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.sign("1.0", "--base-model", desk.file("base.bundle", BASE), "--min-agent", "3") == 0
    capsys.readouterr()
    said = refused(capsys, sign(desk, "1.1", "2.0", base=False))
    assert "base/talking-portrait-1.0.bundle asks for agent 3 and" in said
    assert sign(desk, "1.1", "3.0", base=False) == 0


def test_a_file_that_is_no_agent_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    before = desk.metadata()
    capsys.readouterr()
    more = ("--base-model", desk.file("base.bundle", BASE), "--agent", desk.file("agent.zip", b"no zip"))
    assert "not a whole agent file" in refused(capsys, desk.sign("1.0", *more))
    assert desk.metadata() == before


def test_an_agent_does_not_go_with_adding_signatures(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.sign_base() == 0
    capsys.readouterr()
    file = desk.file("agent.zip", agent("2.0"))
    add = ["release", "sign", "--offline", str(desk.offline), "--add", str(desk.package("1.0")), "--agent", file]
    assert "takes the package as it is" in refused(capsys, main(add))


def test_the_version_is_in_the_signed_document_as_frames_read_it(desk: Desk) -> None:
    assert sign(desk, "1.0", "2.0") == 0
    document = json.loads((desk.offline / "metadata" / "agent.json").read_text())
    (target,) = document["signed"]["targets"].values()
    assert target["custom"]["version"] == "2.0"
