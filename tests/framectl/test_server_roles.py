"""Changed keys between the offline folder and the real web server."""

import json
import shutil
from pathlib import Path

import pytest

from framectl.offline import OfflineFolder
from tests.framectl.conftest import BASE, Desk
from tests.framectl.people import EVERYBODY, People
from tests.framectl.test_server import bridge

pytestmark = pytest.mark.django_db(transaction=True)


def test_people_rotate_keys_and_every_copy_of_the_folder_follows(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ota import keys

    people = People(tmp_path, capsys)
    people.new(*EVERYBODY, "gina")
    file = tmp_path / "online.json"
    people.does("keys", "online", "--out", str(file))
    people.ceremony(file)
    people.sign("alice", "bob", "dora", "emil")
    assert "has no repository yet" in people.refused("repository", "push-roles", "--offline", people.folder)
    people.does("repository", "init", "--offline", people.folder)
    copy = tmp_path / "copy"
    shutil.copytree(people.folder, copy)

    keys.rotate("timestamp")
    assert people.does("keys", "rotate", people.folder, "--role", "online")["proposed"] == {"root": 2}
    people.sign("alice", "bob")
    people.does("keys", "rotate", people.folder, "--role", "root", f"--add={people.public('gina')}", "--remove=carol")
    people.sign("alice", "bob")
    it = Desk(tmp_path, Path(people.folder))
    assert it.sign("1.0", "--base-model", it.file("base.bundle", BASE), "--key", people.key("dora")) == 0
    push = ("repository", "push-roles", "--offline", people.folder)
    assert people.does(*push)["documents"] == {"root": 3}
    assert people.does(*push)["documents"] == {}

    # An incomplete release is refused here and, should somebody force it, there; completed, it is taken.
    package = str(it.package("1.0"))
    assert "missing emil (" in people.refused("release", "push", package)
    forced = tmp_path / "forced.zip"
    unmarked(Path(package), forced)
    assert "The base document has 1 of 2 signatures: missing emil (" in people.refused("release", "push", str(forced))
    assert people.does("release", "list") == []
    people.does("release", "sign", "--offline", people.folder, "--add", package, "--key", people.key("emil"))
    with bridge():
        people.does("release", "push", package)

    pulled = people.does("repository", "pull", "--offline", str(copy))
    assert pulled["documents"] == {"root": 3, "base": 2, "release": 2}
    assert sorted(path.name for path in (copy / "metadata").glob("*.root.json")) == [
        "1.root.json", "2.root.json", "3.root.json"
    ]  # fmt: skip
    with OfflineFolder.open(copy) as folder:
        assert folder.documents["root"].signed.version == 3


def unmarked(package: Path, out: Path) -> None:
    """The same package, without its note that it is incomplete."""
    from framectl.package import Carried, Package, write_package

    with Package.open(package) as opened:
        documents = {role: json.dumps(one).encode() for role, one in opened.documents.items()}
        carried = [Carried(opened, sha256) for sha256 in opened.artifacts]
        write_package(out, opened.manifest_bytes, documents, carried)


def test_what_collects_signatures_is_not_lost_to_a_pull(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = People(tmp_path, capsys)
    people.new(*EVERYBODY)
    people.does("keys", "online", "--out", str(tmp_path / "online.json"))
    people.ceremony(tmp_path / "online.json")
    people.sign("alice", "bob", "dora", "emil")
    people.does("repository", "init", "--offline", people.folder)
    copy = tmp_path / "copy"
    shutil.copytree(people.folder, copy)
    people.does("keys", "renew", people.folder, "--document=lora")
    people.sign("dora", "emil")
    people.does("repository", "push-roles", "--offline", people.folder)

    other = ("--role", "lora", "--threshold", "3")
    people.does("keys", "rotate", str(copy), *other)
    people.does("keys", "sign", str(copy), "--key", people.key("fred"))
    pull = ("repository", "pull", "--offline", str(copy))
    assert "targets 2, not yet signed by all" in people.refused(*pull)
    assert people.does("keys", "status", str(copy))["proposed"] == {"targets": 2, "lora": 2}
    assert people.does(*pull, "--discard-unpushed")["documents"] == {"lora": 2}
    assert people.does("keys", "status", str(copy))["proposed"] == {}
