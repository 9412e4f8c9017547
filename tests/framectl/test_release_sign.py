import hashlib
import json
import struct

import pytest

from framectl.errors import CommandFailed
from framectl.offline import OfflineFolder
from framectl.package import Package, write_package
from framectl.signing import runtime_range
from protocol.chunks import build_index
from protocol.repository import ArtifactManifest, RuntimeRange, artifact_manifest
from tests.framectl.conftest import BASE, Desk, adapter, refused


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_base_release_is_signed_with_length_hash_and_chunk_index(desk: Desk) -> None:
    assert desk.sign_base() == 0
    with OfflineFolder.open(desk.offline) as folder:
        target = folder.documents["base"].signed.targets["base/talking-portrait-1.0.bundle"]
        assert (target.length, target.hashes) == (len(BASE), {"sha256": sha256(BASE)})
        assert artifact_manifest(target.custom) == ArtifactManifest(kind="base_model", index=build_index([BASE]).root)
    with Package.open(desk.package("1.0")) as package:
        assert list(package.artifacts) == [sha256(BASE)]
        assert b"".join(package.read(sha256(BASE))) == BASE
        assert sorted(package.documents) == ["base", "release"]
        assert [ref.path for ref in package.manifest.targets] == ["base/talking-portrait-1.0.bundle"]


def test_an_adapter_release_lists_the_earlier_base_model_and_carries_only_the_adapter(desk: Desk) -> None:
    assert desk.sign_base() == 0
    assert desk.sign_adapter() == 0
    with Package.open(desk.package("1.1")) as package:
        assert [ref.path for ref in package.manifest.targets] == [
            "base/talking-portrait-1.0.bundle", "lora/talking-portrait-1.1.adapter",
        ]  # fmt: skip
        assert list(package.artifacts) == [sha256(adapter(BASE))]
        assert sorted(package.documents) == ["lora", "release"]
    with OfflineFolder.open(desk.offline) as folder:
        target = folder.documents["lora"].signed.targets["lora/talking-portrait-1.1.adapter"]
        assert artifact_manifest(target.custom).base_model == sha256(BASE)


def test_releases_signed_one_after_the_other_follow_on_and_keep_all_earlier_targets(desk: Desk) -> None:
    assert desk.sign_base() == 0
    assert desk.sign_adapter("1.1") == 0
    assert desk.sign_adapter("1.2", adapter(BASE, b"\x02"), base_version="1.1") == 0
    with OfflineFolder.open(desk.offline) as folder:
        versions = {role: folder.documents[role].signed.version for role in ("base", "lora", "release")}
        assert versions == {"base": 2, "lora": 3, "release": 4}
        assert sorted(folder.documents["release"].signed.targets) == [
            f"release/talking-portrait-1.{minor}.json" for minor in range(3)
        ]


def test_the_same_file_again_is_listed_under_its_first_name(desk: Desk) -> None:
    assert desk.sign_base("1.0") == 0
    assert desk.sign_base("2.0") == 0
    with Package.open(desk.package("2.0")) as package:
        assert [ref.path for ref in package.manifest.targets] == ["base/talking-portrait-1.0.bundle"]
        assert not package.artifacts
        assert sorted(package.documents) == ["release"]


def test_an_adapter_for_another_base_model_is_refused_and_nothing_changes(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.sign_base()
    before = desk.metadata()
    capsys.readouterr()
    sentence = refused(capsys, desk.sign_adapter("1.1", adapter(b"another base model")))
    assert sha256(b"another base model")[:12] in sentence
    assert sha256(BASE)[:12] in sentence
    assert desk.metadata() == before
    assert not desk.package("1.1").exists()


def test_a_name_and_version_is_signed_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.sign_base()
    before = desk.metadata()
    desk.package("1.0").unlink()
    capsys.readouterr()
    assert "signed before" in refused(capsys, desk.sign_base("1.0", b"something else"))
    assert desk.metadata() == before


HUGE = struct.pack("<Q", 2**60) + b"{}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "does not begin with"),
        (b"short", "does not begin with"),
        (HUGE, "does not begin with"),
        (struct.pack("<Q", 5000) + b"{}", "cut off"),
        (struct.pack("<Q", 2) + b"{}", "names no base model"),
        (struct.pack("<Q", 2) + b"\xff\xff", "names no base model"),
        (struct.pack("<Q", 60_000) + b"[" * 60_000, "names no base model"),
        (adapter(BASE, base_model="f" * 63), "names no base model"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    desk.sign_base()
    capsys.readouterr()
    assert sentence in refused(capsys, desk.sign_adapter("1.1", content))


@pytest.mark.parametrize("version", ["", "v1", "1/../2", "1.0-rc", "1 0", "9" * 40])
def test_an_odd_version_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str], version: str) -> None:
    capsys.readouterr()
    out = str(desk.path / "odd.zip")
    file = desk.file("base.bundle", BASE)
    assert "names no release" in refused(capsys, desk.sign(version, "--base-model", file, "--out", out))


def test_an_empty_base_model_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert "cannot be an artifact" in refused(capsys, desk.sign_base("1.0", b""))


def test_a_release_on_an_unknown_base_release_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.sign_base()
    capsys.readouterr()
    assert "pull first" in refused(capsys, desk.sign_adapter("1.1", base_version="0.9"))


def test_a_kept_manifest_that_was_changed_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.sign_base()
    capsys.readouterr()
    kept = desk.offline / "releases" / "talking-portrait-1.0.json"
    kept.write_bytes(kept.read_bytes().replace(b"1.0", b"1.3"))
    assert "not the signed one" in refused(capsys, desk.sign_adapter())


def test_a_folder_is_advanced_only_when_the_package_has_been_written(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    before = desk.metadata()
    desk.package("1.0").write_bytes(b"somebody's file")
    capsys.readouterr()
    assert "exists already" in refused(capsys, desk.sign_base())
    assert desk.metadata() == before
    assert desk.package("1.0").read_bytes() == b"somebody's file"


def test_a_file_that_changes_while_it_is_packed_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from framectl import signing

    write = write_package

    def change_then_write(*arguments: object, **named: object) -> None:
        desk.file("base.bundle", b"trained again")
        write(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(signing, "write_package", change_then_write)
    before = desk.metadata()
    capsys.readouterr()
    assert "changed while" in refused(capsys, desk.sign_base())
    assert desk.metadata() == before
    assert not desk.package("1.0").exists()


def test_a_role_key_that_is_missing_is_named(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.offline / "keys" / "base.pem").unlink()
    assert desk.sign_base() == 0
    assert "Incomplete. The base document has 0 of 1 signatures: missing base (" in capsys.readouterr().out


def test_other_roles_keys_do_not_sign(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    before = desk.metadata()
    capsys.readouterr()
    keys = ("--key", f"file:{desk.offline}/keys/lora.pem", "--key", str(desk.offline / "keys" / "targets.pem"))
    file = desk.file("base.bundle", BASE)
    assert "None of these keys may sign" in refused(capsys, desk.sign("1.0", "--base-model", file, *keys))
    assert desk.metadata() == before
    assert not desk.package("1.0").exists()


def test_security_epochs_never_fall_within_a_folder(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.sign_base() == 0
    file = desk.file("1.1.adapter", adapter(BASE))
    more = ("--base-release", "talking-portrait 1.0", "--adapter", file)
    assert desk.sign("1.1", *more, "--security-epoch", "3") == 0
    capsys.readouterr()
    said = refused(capsys, desk.sign("1.2", *more, "--security-epoch", "2"))
    assert "between 3 and" in said
    assert "talking-portrait-1.1" in said
    assert desk.sign("1.2", *more) == 0
    with OfflineFolder.open(desk.offline) as folder:
        targets = folder.documents["release"].signed.targets
        epochs = [
            artifact_manifest(targets[f"release/talking-portrait-1.{n}.json"].custom).security_epoch for n in range(3)
        ]
        assert epochs == [0, 3, 3]


def test_a_document_that_frames_could_not_take_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framectl.documents.MAX_DOCUMENT", 500)
    before = desk.metadata()
    assert desk.sign_base() == 1
    assert desk.metadata() == before


def test_signing_needs_no_network(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("signing touched the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    assert desk.sign_base() == 0


def test_packages_hold_nothing_secret(desk: Desk) -> None:
    desk.sign_base()
    content = desk.package("1.0").read_bytes()
    assert b"PRIVATE KEY" not in content


def test_a_damaged_package_is_refused(desk: Desk) -> None:
    desk.sign_base()
    content = desk.package("1.0").read_bytes()
    desk.package("1.0").write_bytes(content.replace(BASE[:100], b"X" * 100, 1))
    with Package.open(desk.package("1.0")) as package, pytest.raises(CommandFailed, match="copy"):
        package.verify_artifacts()


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("onnx", RuntimeRange(name="onnx")),
        ("rknn >= 2.3, < 3", RuntimeRange(name="rknn", at_least="2.3", below="3")),
        ("rknn<3", RuntimeRange(name="rknn", below="3")),
    ],
)
def test_a_range_of_runtime_versions_is_read_as_people_write_it(text: str, means: RuntimeRange) -> None:
    assert runtime_range(text) == means


@pytest.mark.parametrize("text", ["", "torch>=2", "rknn>2", "rknn>=x", "rknn>=2<1<0"])
def test_what_is_no_range_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(CommandFailed, match="is no range of runtime versions"):
        runtime_range(text)


def test_the_signed_artifact_names_its_runtimes(desk: Desk) -> None:
    arguments = ("--base-model", desk.file("base.bundle", BASE), "--runtime", "rknn>=2.3,<3", "--runtime", "onnx")
    assert desk.sign("1.0", *arguments) == 0
    document = json.loads((desk.offline / "metadata" / "base.json").read_text())
    (target,) = document["signed"]["targets"].values()
    assert target["custom"]["runtimes"] == [{"name": "rknn", "at_least": "2.3", "below": "3"}, {"name": "onnx"}]
