"""Pushing a release: all of it or nothing, and one sentence for whatever is wrong."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet.models import AuditEntry
from ota import storage
from ota.models import Artifact, Release, RetainedObject, TufDocument
from ota.selectors_fit import agent_versions
from ota.services import artifacts, releases
from protocol.chunks import sha256_hex
from protocol.errors import Reason, Refused
from protocol.messages import TargetRef
from protocol.repository import ArtifactManifest, ReleaseManifest
from tests.ota.offline import File, Offline, Push, file, plain
from tests.ota.world import push

pytestmark = pytest.mark.django_db


def refused(what: Push, *, upload: bool = True) -> Refused:
    """The push is refused and leaves nothing behind but uploaded bytes."""
    for one in what.files if upload else []:
        artifacts.store(one.ref.sha256, [one.data])
    before = (Release.objects.count(), TufDocument.objects.count(), RetainedObject.objects.count())
    with pytest.raises(Refused) as caught:
        releases.create(what.manifest, what.documents, "eng")
    assert (Release.objects.count(), TufDocument.objects.count(), RetainedObject.objects.count()) == before
    assert caught.value.detail.endswith(".")
    return caught.value


def adapter(base: File, data: bytes = b"lora" * 500) -> File:
    return file("lora/mandarin-1.1.adapter", data, "lora_delta", base.ref.sha256)


def tampered(what: Push, role: str, change: Any, folder: Offline) -> Push:
    """The push with one document changed and properly signed again."""
    document = folder.documents[role]
    change(document.signed)
    folder.sign(role, document)
    return Push(what.manifest, {**what.documents, role: plain(document)}, what.files)


def test_a_release_lists_its_artifacts_and_is_audited(release_1_1: Release, base: File) -> None:
    assert {target.path for target in release_1_1.targets.all()} == {
        "base/talking-portrait-1.0.bundle",
        "lora/mandarin-1.1.adapter",
        "release/talking-portrait-1.1.json",
    }
    assert {artifact.kind for artifact in release_1_1.artifacts.all()} == {"base_model", "lora_delta", "release"}
    assert AuditEntry.objects.filter(action="release.push", actor="eng").count() == 2


def test_pushing_again_is_harmless(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    first = push(what)
    again, created = releases.create(what.manifest, what.documents, "eng")
    assert (again, created) == (first, False)


def test_a_base_model_that_is_there_already_is_not_queued_twice(
    release_1_0: Release, offline: Offline, base: File
) -> None:
    before = RetainedObject.objects.filter(order=0).count()
    push(offline.release("talking-portrait", "1.1", [adapter(base)], [base.ref]))
    assert RetainedObject.objects.filter(order=0).count() == before + 2  # the adapter and the manifest


def test_a_wrong_signature_names_the_role(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    forged = offline.next("release", [])
    forged.signed.version -= 1
    forged.sign(offline.signers["base"])
    error = refused(Push(what.manifest, {**what.documents, "release": plain(forged)}, what.files))
    assert error.reason is Reason.WRONG_SIGNATURE
    assert "The release document has 0 of 1 signatures" in error.detail


def test_a_version_that_is_not_the_next_is_refused(offline: Offline, base: File) -> None:
    first = offline.release("talking-portrait", "0.9", [base])  # signed and not pushed
    elsewhere = deepcopy(offline)
    second = offline.release("talking-portrait", "1.0", [], [base.ref])
    error = refused(second)
    assert "has version 3, but 2 comes next: push the packages that were signed before" in error.detail
    push(first)
    push(second)
    error = refused(elsewhere.release("talking-portrait", "1.1", [], [base.ref]))
    assert "has version 3, but 4 comes next: run framectl repository pull" in error.detail


def test_bytes_that_were_not_uploaded_are_named(offline: Offline, base: File) -> None:
    error = refused(offline.release("talking-portrait", "1.0", [base]), upload=False)
    assert error.reason is Reason.BAD_ARTIFACT
    assert "base/talking-portrait-1.0.bundle" in error.detail
    assert "upload them first" in error.detail


def test_a_wrong_length_is_refused(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])

    def change(signed: Any) -> None:
        signed.targets[base.path].length += 1

    assert "is signed with" in refused(tampered(what, "base", change, offline)).detail


def test_a_wrong_chunk_index_is_refused(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])

    def change(signed: Any) -> None:
        signed.targets[base.path].custom["index"] = "0" * 64

    assert "another chunk index" in refused(tampered(what, "base", change, offline)).detail


@pytest.mark.parametrize("custom", [None, {}, {"kind": "rootkit"}, {"kind": "base_model", "index": "x"}])
def test_a_target_without_a_proper_manifest_is_refused(custom: object, offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])

    def change(signed: Any) -> None:
        signed.targets[base.path].unrecognized_fields["custom"] = custom

    assert "no artifact manifest" in refused(tampered(what, "base", change, offline)).detail


def test_a_kind_that_the_role_may_not_sign_is_refused(offline: Offline, base: File) -> None:
    odd = File("lora/sneaky.bundle", base.data, base.manifest)
    what = offline.release("talking-portrait", "1.0", [base])
    document = offline.next("lora", [odd])
    offline.sign("lora", document)
    error = refused(Push(what.manifest, {**what.documents, "lora": plain(document)}, what.files))
    assert "which the role lora may not sign" in error.detail


def test_a_path_outside_the_role_is_refused(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    document = offline.next("lora", [base])
    offline.sign("lora", document)
    error = refused(Push(what.manifest, {**what.documents, "lora": plain(document)}, what.files))
    assert "only the role base may" in error.detail


@pytest.mark.parametrize("change", ["drops", "changes"])
def test_targets_signed_before_stay_as_they_are(
    change: str, release_1_0: Release, offline: Offline, base: File
) -> None:
    what = offline.release("talking-portrait", "1.1", [file("base/new.bundle", b"new", "base_model")])

    def spoil(signed: Any) -> None:
        if change == "drops":
            del signed.targets[base.path]
        else:
            signed.targets[base.path].custom["security_epoch"] = 3

    error = refused(tampered(what, "base", spoil, offline))
    assert f"{change} base/talking-portrait-1.0.bundle, which was signed before" in error.detail


def test_an_adapter_for_an_unknown_base_is_refused(release_1_0: Release, offline: Offline, base: File) -> None:
    foreign = file("lora/foreign-1.adapter", b"lora", "lora_delta", "9" * 64)
    error = refused(offline.release("talking-portrait", "1.1", [foreign], [base.ref]))
    assert error.reason is Reason.WRONG_BASE_MODEL
    assert "no release has brought" in error.detail


def test_an_adapter_without_its_base_in_the_release_is_refused(
    release_1_0: Release, offline: Offline, base: File
) -> None:
    error = refused(offline.release("talking-portrait", "1.1", [adapter(base)]))
    assert error.reason is Reason.WRONG_BASE_MODEL
    assert "without its base model" in error.detail


def test_an_adapter_that_names_no_base_is_refused(release_1_0: Release, offline: Offline, base: File) -> None:
    nameless = File("lora/nameless-1.adapter", b"lora", ArtifactManifest(kind="lora_delta"))
    assert "names no base model" in refused(offline.release("talking-portrait", "1.1", [nameless], [base.ref])).detail


def test_a_release_without_a_base_model_is_refused(offline: Offline) -> None:
    asset = File("base/portrait.asset", b"asset", ArtifactManifest(kind="asset"))
    assert (
        "0 files of kind base model: a frame runs exactly one" in refused(offline.release("p", "1.1", [asset])).detail
    )


def test_a_release_with_two_adapters_is_refused(release_1_0: Release, offline: Offline, base: File) -> None:
    second = file("lora/cantonese-1.1.adapter", b"more", "lora_delta", base.ref.sha256)
    error = refused(offline.release("talking-portrait", "1.1", [adapter(base), second], [base.ref]))
    assert error.reason is Reason.INCOMPATIBLE
    assert "2 files of kind adapter: a frame runs one at most" in error.detail


def test_files_that_no_frame_can_run_together_are_refused(offline: Offline) -> None:
    base = File("base/small.bundle", b"base", ArtifactManifest(kind="base_model", hardware=["rk3588", "rk3576"]))
    bound = ArtifactManifest(kind="lora_delta", base_model=base.ref.sha256, hardware=["pi5"])
    error = refused(offline.release("p", "1.0", [base, File("lora/p.adapter", b"lora", bound)]))
    assert "base/small.bundle for rk3576, rk3588 and lora/p.adapter for pi5: no frame can run both" in error.detail


def agent(version: str | None, path: str = "agent/p-2.0.zip", **conditions: Any) -> File:
    data = f"agent {version}".encode()
    return File(path, data, ArtifactManifest(kind="agent", version=version, **conditions))


def test_a_release_brings_its_agent_with_everything_else(release_1_0: Release, offline: Offline, base: File) -> None:
    bound = ArtifactManifest(kind="lora_delta", base_model=base.ref.sha256, min_agent="2.0")
    made = push(offline.release("p", "2.0", [File("lora/p.adapter", b"lora", bound), agent("2.0")], [base.ref]))
    assert {target.artifact.kind for target in made.targets.all()} == {"base_model", "lora_delta", "agent", "release"}
    assert agent_versions([made, release_1_0]) == {"agent/p-2.0.zip": "2.0"}


def test_a_release_with_two_agents_is_refused(release_1_0: Release, offline: Offline, base: File) -> None:
    two = [agent("2.0"), agent("2.1", "agent/p-2.1.zip")]
    error = refused(offline.release("p", "2.0", two, [base.ref]))
    assert error.reason is Reason.INCOMPATIBLE
    assert "2 files of kind agent: a frame runs one at most" in error.detail


@pytest.mark.parametrize("version", [None, ""])
def test_an_agent_that_does_not_say_which_it_is_is_refused(
    version: str | None, release_1_0: Release, offline: Offline, base: File
) -> None:
    error = refused(offline.release("p", "2.0", [agent(version)], [base.ref]))
    assert "agent/p-2.0.zip does not say which version of the agent it is" in error.detail


def test_a_file_for_a_newer_agent_than_its_release_brings_is_refused(
    release_1_0: Release, offline: Offline, base: File
) -> None:
    bound = ArtifactManifest(kind="lora_delta", base_model=base.ref.sha256, min_agent="2.1")
    error = refused(offline.release("p", "2.0", [File("lora/p.adapter", b"lora", bound), agent("2.0")], [base.ref]))
    assert error.reason is Reason.INCOMPATIBLE
    assert "lora/p.adapter, which needs agent 2.1, and agent/p-2.0.zip is agent 2.0: no frame" in error.detail


def test_an_agent_for_other_hardware_than_the_rest_is_refused(offline: Offline) -> None:
    base = File("base/small.bundle", b"base", ArtifactManifest(kind="base_model", hardware=["rk3588"]))
    error = refused(offline.release("p", "1.0", [base, agent("2.0", hardware=["pi5"])]))
    assert "agent/p-2.0.zip for pi5: no frame can run both" in error.detail


def test_a_manifest_other_than_the_signed_one_is_refused(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    other = msgspec.json.encode(ReleaseManifest(name="talking-portrait", version="1.0", targets=[base.ref], notes="x"))
    assert "signs another release/talking-portrait-1.0.json" in refused(Push(other, what.documents, what.files)).detail


def test_a_manifest_that_lists_unsigned_files_is_refused(offline: Offline, base: File) -> None:
    ghost = TargetRef("base/ghost.bundle", 4, sha256_hex(b"boo!"))
    error = refused(offline.release("talking-portrait", "1.0", [base], [ghost]))
    assert "lists base/ghost.bundle, which the base document does not sign" in error.detail


def test_a_manifest_that_lists_other_bytes_than_were_signed_is_refused(offline: Offline, base: File) -> None:
    wrong = TargetRef(base.path, base.ref.length, "1" * 64)
    what = offline.release("talking-portrait", "1.0", [base], [wrong])
    assert refused(what).reason is Reason.ROLES_DISAGREE


def test_a_name_and_version_are_used_once(release_1_0: Release, offline: Offline, base: File) -> None:
    newer = file("base/other.bundle", b"other", "base_model")
    error = refused(offline.release("talking-portrait", "1.0", [newer]))
    assert "exists already with other content" in error.detail


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[]", b"\xff", b"[" * 5000])
def test_what_is_no_manifest_is_refused(manifest: bytes, offline: Offline) -> None:
    assert refused(Push(manifest, {}, [])).reason is Reason.BAD_MESSAGE


@pytest.mark.parametrize("name", ["nul\0", "a b", "../x", "", "ü"])
def test_odd_names_are_refused(name: str, offline: Offline, base: File) -> None:
    assert refused(offline.release(name, "1.0", [base])).reason is Reason.BAD_MESSAGE


def test_a_release_may_not_bring_root_or_targets(offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    error = refused(Push(what.manifest, {**what.documents, "targets": plain(offline.documents["targets"])}, what.files))
    assert "not of targets" in error.detail


def test_nothing_is_released_before_the_repository_is_set_up(base: File) -> None:
    folder = Offline()
    folder.first()
    assert "not set up" in refused(folder.release("talking-portrait", "1.0", [base])).detail


def test_a_document_too_long_for_a_frame_is_refused(offline: Offline, base: File) -> None:
    many = [file(f"base/{n:03d}.bundle", b"x", "base_model") for n in range(600)]
    what = offline.release("talking-portrait", "1.0", [base])
    document = offline.next("agent", many)
    offline.sign("agent", document)
    error = refused(Push(what.manifest, {**what.documents, "agent": plain(document)}, what.files))
    assert "sign fewer targets into it" in error.detail


def test_bytes_that_do_not_hash_to_their_name_are_refused(db: None) -> None:
    with pytest.raises(Refused, match="send the file again"):
        artifacts.store("0" * 64, [b"bytes"])
    with pytest.raises(Refused, match="at least one byte"):
        artifacts.store(sha256_hex(b""), [])
    assert not Artifact.objects.exists()


def test_an_artifact_is_kept_once_and_mended_when_its_file_is_gone(var: Path) -> None:
    data = b"bytes" * 30_000
    artifact, created = artifacts.store(sha256_hex(data), [data[:7], data[7:]])
    assert created
    assert artifacts.store(artifact.sha256, [data]) == (artifact, False)
    path = var / "artifacts" / artifact.sha256[:2] / artifact.sha256
    assert path.read_bytes() == data
    path.unlink()
    artifacts.store(artifact.sha256, [data])
    assert path.read_bytes() == data


def test_stored_bytes_that_rotted_are_noticed_before_they_are_published(
    offline: Offline, base: File, var: Path
) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    artifacts.store(base.ref.sha256, [base.data])
    path = var / "artifacts" / base.ref.sha256[:2] / base.ref.sha256
    path.chmod(0o600)
    path.write_bytes(b"X" + base.data[1:])
    error = refused(what, upload=False)
    assert "were changed" in error.detail
    # What is damaged is forgotten: whoever asks what is missing now sends it, and the push goes through.
    assert not storage.has(base.ref.sha256, base.ref.length)
    assert push(what).version == "1.0"


def test_bytes_that_are_gone_are_asked_for_again(offline: Offline, base: File, var: Path) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    artifacts.store(base.ref.sha256, [base.data])
    (var / "artifacts" / base.ref.sha256[:2] / base.ref.sha256).unlink()
    assert "are gone: upload the file again" in refused(what, upload=False).detail
    assert push(what).version == "1.0"


def test_what_a_killed_upload_left_is_replaced(base: File, var: Path) -> None:
    """A server that dies while it stores the bytes leaves a part of them under their name, and no row."""
    path = var / "artifacts" / base.ref.sha256[:2] / base.ref.sha256
    path.parent.mkdir(parents=True)
    path.write_bytes(base.data[:1000])
    _, created = artifacts.store(base.ref.sha256, [base.data])
    assert created
    assert path.read_bytes() == base.data
    assert [each.name for each in path.parent.iterdir()] == [base.ref.sha256]
