"""Keys in several hands: first documents, changes and releases count once enough people have signed."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Key

from framectl.__main__ import main
from framectl.offline import OfflineFolder
from framectl.package import Package
from framectl.publickeys import id_of
from tests.framectl.conftest import BASE, Desk, agent
from tests.framectl.people import EVERYBODY, People


@pytest.fixture
def people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> People:
    found = People(tmp_path, capsys)
    found.new(*EVERYBODY)
    return found


@pytest.fixture
def started(people: People, online_file: Path) -> People:
    """The ceremony is complete."""
    people.ceremony(online_file)
    people.sign("alice", "bob", "dora", "emil")
    return people


def versions(folder: str) -> dict[str, int]:
    with OfflineFolder.open(Path(folder)) as opened:
        return {role: document.signed.version for role, document in opened.documents.items()}


def desk(people: People) -> Desk:
    return Desk(people.home, Path(people.folder))


def test_first_documents_count_once_each_threshold_is_met(people: People, online_file: Path) -> None:
    said = people.ceremony(online_file)
    assert len(said["missing"]) == 7
    assert "root document has 0 of 2 signatures: missing alice (" in said["missing"][0]
    assert "0 of 2" in people.refused("repository", "init", "--offline", people.folder)
    people.sign("alice")
    (people.home / "other").mkdir()
    shutil.move(people.folder, people.home / "other" / "folder")  # carried to the next machine
    shutil.move(people.home / "other" / "folder", people.folder)
    said = people.sign("carol")
    assert all("root" not in sentence for sentence in said["missing"])
    said = people.sign("dora")
    assert "The lora document has 1 of 2 signatures: missing emil (" in " ".join(said["missing"])
    said = people.sign("fred")
    assert (said["proposed"], said["missing"], len(said["signed"])) == ({}, [], 5)
    assert set(versions(people.folder).values()) == {1}
    assert (Path(people.folder) / "metadata" / "1.root.json").exists()
    assert not list((Path(people.folder) / "keys").iterdir())


def test_the_same_person_does_not_count_twice(people: People, online_file: Path) -> None:
    people.ceremony(online_file)
    people.sign("alice")
    assert "nothing to sign here" in people.refused("keys", "sign", people.folder, "--key", people.key("alice"))
    double = json.loads(Path(people.public("alice")).read_text()) | {"name": "alice-2"}
    double["key"]["keyval"]["public"] = double["key"]["keyval"]["public"].upper()  # the same key, spelled otherwise
    double["keyid"] = id_of(Key.from_dict("", dict(double["key"])))
    (people.home / "double.pub").write_text(json.dumps(double))
    arguments = ("keys", "rotate", people.folder, "--role", "root", "--add", people.public("double"))
    assert "counts once" in people.refused(*arguments)


def test_a_key_under_the_id_of_another_is_refused(people: People, online_file: Path) -> None:
    mallory = json.loads(Path(people.public("fred")).read_text())
    alice = json.loads(Path(people.public("alice")).read_text())
    Path(people.public("alice")).write_text(json.dumps(alice | {"key": mallory["key"]}))
    keys = (f"--root-key={people.public('alice')}", f"--targets-key={people.public('dora')}")
    said = people.refused("keys", "ceremony", "--out", people.folder, *keys, f"--online={online_file}")
    assert "is not that of this key" in said


def test_a_proposal_that_swaps_the_key_behind_an_id_is_not_signed(started: People) -> None:
    """By its ids alone such a proposal changes nothing."""
    started.does("keys", "renew", started.folder, "--document", "root")
    path = Path(started.folder) / "metadata" / "proposed.json"
    content = json.loads(path.read_text())
    signed = content["documents"]["root"]["signed"]
    keyid = json.loads(Path(started.public("carol")).read_text())["keyid"]
    signed["keys"][keyid]["keyval"] = json.loads(Path(started.public("fred")).read_text())["key"]["keyval"]
    path.write_text(json.dumps(content))
    said = started.refused("keys", "sign", started.folder, "--key", started.key("alice"))
    assert "carol" in said
    assert "is not that of this key" in said


@pytest.mark.parametrize("role", ["snapshot", "root"])
def test_a_proposal_whose_threshold_nobody_could_meet_is_not_signed(started: People, role: str) -> None:
    started.does("keys", "renew", started.folder, "--document", "root")
    path = Path(started.folder) / "metadata" / "proposed.json"
    content = json.loads(path.read_text())
    content["documents"]["root"]["signed"]["roles"][role]["threshold"] = 9
    path.write_text(json.dumps(content))
    assert "but 9 must sign" in started.refused("keys", "sign", started.folder, "--key", started.key("alice"))


@pytest.mark.parametrize("name", ["../stolen.json", "metadata/../../stolen.json", "keys/alice.pem", "/tmp/stolen.json"])
def test_a_folder_from_another_machine_writes_nothing_outside_of_itself(started: People, name: str) -> None:
    path = Path(started.folder) / "metadata" / "pending.json"
    path.write_text(json.dumps({name: "{}"}))
    assert "ask who carried it" in started.refused("keys", "status", started.folder)
    assert not (Path(started.folder) / name).exists()


def test_a_threshold_that_nobody_could_meet_is_refused(people: People, online_file: Path) -> None:
    keys = (f"--root-key={people.public('alice')}", f"--targets-key={people.public('dora')}")
    said = people.refused(
        "keys", "ceremony", "--out", people.folder, *keys, "--root-threshold=2", f"--online={online_file}"
    )
    assert "would have 1 keys, but 2 must sign" in said
    assert not Path(people.folder).exists()


def test_a_private_key_is_not_taken_for_a_public_one(people: People, online_file: Path) -> None:
    keys = (f"--root-key={people.home / 'alice.pem'}", f"--targets-key={people.public('dora')}")
    said = people.refused("keys", "ceremony", "--out", people.folder, *keys, f"--online={online_file}")
    assert "is a private key" in said


def test_a_new_root_needs_the_old_keys_and_the_new_ones(started: People) -> None:
    started.new("gina")
    said = started.does(
        "keys", "rotate", started.folder, "--role=root", f"--add={started.public('gina')}", "--remove=carol",
        "--threshold=3",
    )  # fmt: skip
    assert said["proposed"] == {"root": 2}
    said = started.sign("gina")
    (change,) = said["changes"]  # whoever signs is told what for
    assert "adds gina" in change
    assert "removes carol" in change
    assert "3 must sign, not 2" in change
    assert versions(started.folder)["root"] == 1
    said = started.sign("alice")
    assert any("1 of 2" in sentence for sentence in said["missing"])
    assert any("2 of 3" in sentence for sentence in said["missing"])
    assert started.sign("bob")["missing"] == []
    assert versions(started.folder)["root"] == 2


def test_a_revoked_key_takes_its_signatures_along(started: People) -> None:
    """emil signed every delegated document: all of them are to be signed anew by those who remain."""
    said = started.does("keys", "revoke", started.folder, "emil")
    assert said["proposed"] == {
        "root": 2, "targets": 2, "base": 2, "lora": 2, "agent": 2, "release": 2
    }  # fmt: skip
    assert "nothing to sign here" in started.refused("keys", "sign", started.folder, "--key", started.key("emil"))
    started.sign("alice", "bob", "dora")
    assert started.sign("fred")["missing"] == []
    status = started.does("keys", "status", started.folder)
    assert "emil" not in json.dumps(status)


def test_a_key_that_a_threshold_needs_is_replaced_and_not_only_revoked(started: People) -> None:
    started.does("keys", "revoke", started.folder, "emil")
    assert "--add NEW.pub" in started.refused("keys", "revoke", started.folder, "fred")


def test_a_key_is_not_added_and_removed_at_once(started: People) -> None:
    change = ("--role", "lora", "--add", started.public("emil"), "--remove", "emil")
    assert "added and removed at once" in started.refused("keys", "rotate", started.folder, *change)


def test_a_release_collects_signatures_in_its_package(started: People) -> None:
    it = desk(started)
    assert it.sign("1.0", "--base-model", it.file("base.bundle", BASE), "--key", started.key("dora")) == 0
    with Package.open(it.package("1.0")) as package:
        assert [sentence.partition(":")[0] for sentence in package.missing] == [
            "The base document has 1 of 2 signatures", "The release document has 1 of 2 signatures",
        ]  # fmt: skip
    refusal = started.refused("release", "push", str(it.package("1.0")), "--token", "t")
    assert "missing emil (" in refusal
    assert "fred (" in refusal
    assert versions(started.folder)["base"] == 1

    again = ("release", "sign", "--offline", started.folder, "--add", str(it.package("1.0")))
    assert "nothing to add" in started.refused(*again, "--key", started.key("dora"))
    assert "nothing to add" in started.refused(*again, "--key", started.key("alice"))
    said = started.does(*again, "--key", started.key("fred"))
    assert (said["complete"], said["missing"]) == (True, [])
    with Package.open(it.package("1.0")) as package:
        assert package.missing == []
        package.verify_artifacts()
    assert versions(started.folder)["base"] == 2


def test_people_with_copies_of_the_folder_pass_the_package_on(started: People) -> None:
    copy = started.home / "copy"
    shutil.copytree(started.folder, copy)
    it = desk(started)
    it.sign("1.0", "--base-model", it.file("base.bundle", BASE), "--key", started.key("dora"))
    more = ("--add", str(it.package("1.0")))
    assert started.does("release", "sign", "--offline", str(copy), *more, "--key", started.key("emil"))["complete"]
    assert versions(str(copy))["release"] == 2
    # Back at the first desk the package itself is enough.
    assert started.does("release", "sign", "--offline", started.folder, *more)["complete"]
    assert versions(started.folder)["release"] == 2


def test_an_agent_is_signed_by_as_many_as_anything_else_and_shown_to_each(started: People) -> None:
    it = desk(started)
    more = ("--agent", it.file("agent.zip", agent("2.0")), "--key", started.key("dora"))
    assert it.sign("1.0", "--base-model", it.file("base.bundle", BASE), *more) == 0
    with Package.open(it.package("1.0")) as package:
        assert [sentence.partition(":")[0] for sentence in package.missing] == [
            f"The {role} document has 1 of 2 signatures" for role in ("base", "agent", "release")
        ]
    said = started.does("release", "sign", "--offline", started.folder, "--add", str(it.package("1.0")),
                        "--key", started.key("fred"))  # fmt: skip
    assert (said["complete"], said["agent"]) == (True, "2.0")


def test_an_agent_that_is_called_another_than_it_is_is_not_signed(
    started: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framectl import signing
    from framectl.agents import AgentFile, read_agent

    def misread(path: Path) -> AgentFile:
        return replace(read_agent(path), version="9.9")

    it = desk(started)
    copy = started.home / "copy"
    shutil.copytree(started.folder, copy)
    monkeypatch.setattr(signing, "read_agent", misread)
    more = ("--agent", it.file("agent.zip", agent("2.0")), "--key", started.key("dora"))
    assert it.sign("1.0", "--base-model", it.file("base.bundle", BASE), *more) == 0
    refusal = started.refused(
        "release", "sign", "--offline", str(copy), "--add", str(it.package("1.0")), "--key", started.key("emil")
    )
    assert "is agent 2.0, but its document calls it 9.9: do not sign it" in refusal


def test_one_thing_collects_signatures_at_a_time(started: People) -> None:
    it = desk(started)
    it.sign("1.0", "--base-model", it.file("base.bundle", BASE), "--key", started.key("dora"))
    assert it.sign_base("2.0") == 1
    assert "release sign --add" in started.refused("keys", "revoke", started.folder, "emil")
    assert "release sign --add" in started.refused("keys", "sign", started.folder, "--key", started.key("emil"))
    started.does("keys", "drop", started.folder)
    assert started.does("keys", "revoke", started.folder, "emil")["proposed"]["lora"] == 2


def test_a_package_that_says_something_else_than_its_documents_is_not_signed(started: People) -> None:
    it = desk(started)
    it.sign("1.0", "--base-model", it.file("base.bundle", BASE), "--key", started.key("dora"))
    other = started.home / "other"
    shutil.copytree(started.folder, other)
    started.does("keys", "drop", str(other))
    smuggled = Desk(started.home, other)
    smuggled.sign("9.9", "--base-model", it.file("evil.bundle", b"evil" * 100), "--key", started.key("dora"))
    from framectl.package import write_package

    with Package.open(smuggled.package("9.9")) as evil, Package.open(it.package("1.0")) as good:
        documents = {role: json.dumps(one).encode() for role, one in evil.documents.items()}
        write_package(started.home / "mixed.zip", good.manifest_bytes, documents, [])
    again = ("release", "sign", "--offline", started.folder, "--key", started.key("emil"), "--add")
    assert "do not sign it" in started.refused(*again, str(started.home / "mixed.zip"))


def test_an_encrypted_key_needs_its_passphrase(
    people: People, online_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMEFLEET_KEY_PASSPHRASE", "correct horse")
    people.new("hana")
    pem = people.home / "hana.pem"
    assert b"ENCRYPTED PRIVATE KEY" in pem.read_bytes()
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    people.ceremony(online_file, f"--root-key={people.public('hana')}")
    monkeypatch.setenv("FRAMEFLEET_KEY_PASSPHRASE", "wrong")
    assert "not the passphrase" in people.refused("keys", "sign", people.folder, "--key", people.key("hana"))
    monkeypatch.delenv("FRAMEFLEET_KEY_PASSPHRASE")
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115  closed with the process
    assert "is needed" in people.refused("keys", "sign", people.folder, "--key", people.key("hana"))
    monkeypatch.setenv("FRAMEFLEET_KEY_PASSPHRASE", "correct horse")
    assert people.sign("hana")["signed"]


def test_a_public_key_file_leads_to_its_private_key(started: People) -> None:
    started.does("keys", "renew", started.folder, "--document=root")
    assert started.does("keys", "sign", started.folder, "--key", started.public("alice"))["signed"]
    shutil.copy(started.home / "bob.pem", started.home / "carol.pem")
    assert "is not the private key of" in started.refused(
        "keys", "sign", started.folder, "--key", started.public("carol")
    )


def test_an_existing_private_key_gets_its_public_key_file_again(started: People) -> None:
    before = json.loads(Path(started.public("alice")).read_text())
    (started.home / "elsewhere").mkdir()
    out = started.home / "elsewhere" / "alice.pem"
    started.does("keys", "new", "--out", str(out), "--uri", started.key("alice"))
    again = json.loads(out.with_suffix(".pub").read_text())
    assert again == before | {"uri": "file:../alice.pem"}
    assert not out.exists()
    started.does("keys", "renew", started.folder, "--document=root")
    assert started.does("keys", "sign", started.folder, "--key", str(out.with_suffix(".pub")))["signed"]
    assert "name the private one" in started.refused("keys", "new", "--out", str(started.home / "x.pub"))
    assert not (started.home / "x.pub").exists()


def test_renewed_documents_say_the_same_for_another_year(started: People) -> None:
    said = started.does("keys", "renew", started.folder)
    assert set(said["proposed"].values()) == {2}
    assert started.sign("alice", "bob", "dora", "emil")["missing"] == []
    assert set(versions(started.folder).values()) == {2}


def test_changes_are_proposed_before_they_are_signed_and_can_be_given_up(started: People) -> None:
    started.new("gina")
    rotate = ("keys", "rotate", started.folder, "--role=lora", f"--add={started.public('gina')}", "--remove=dora")
    assert started.does(*rotate)["proposed"] == {"targets": 2, "lora": 2}
    assert started.does("keys", "rotate", started.folder, "--role=lora", "--threshold=1")["proposed"] == {
        "targets": 2, "lora": 2
    }  # fmt: skip
    started.does("keys", "drop", started.folder)
    assert versions(started.folder)["targets"] == 1
    assert "No key is called" in started.refused("keys", "revoke", started.folder, "nobody")
    assert main(["keys", "drop", started.folder]) == 1


def test_signers_are_shown_whose_keys_come_and_go(started: People) -> None:
    started.new("gina")
    started.does("keys", "rotate", started.folder, "--role=root", f"--add={started.public('gina')}", "--remove=carol")
    started.does("keys", "rotate", started.folder, "--role=lora", "--threshold=1")
    changes = started.does("keys", "status", started.folder)["changes"]
    assert [change.partition(" (")[0] for change in changes] == ["root: adds gina", "lora: 1 must sign, not 2"]
    assert "removes carol (" in changes[0]


@pytest.mark.parametrize(
    ("role", "change", "sentence"),
    [
        ("lora", lambda signed: signed["targets"].update({"lora/x": {"length": 1, "hashes": {"sha256": "0" * 64}}}),
         "lists other files"),
        ("lora", lambda signed: signed.update(version=2**31), "does not come next"),
        ("root", lambda signed: signed.update(expires="2199-01-01T00:00:00Z"), "would be valid until 2199"),
        ("targets", lambda signed: signed["delegations"]["roles"][1].update(paths=["*"]), "delegates something else"),
        ("agent", lambda signed: signed.update(delegations={"keys": {}, "roles": []}), "delegates further"),
    ],
)  # fmt: skip
def test_what_somebody_changed_on_the_way_is_not_signed(
    started: People, role: str, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    started.does("keys", "renew", started.folder)
    path = Path(started.folder) / "metadata" / "proposed.json"
    proposal = json.loads(path.read_text())
    change(proposal["documents"][role]["signed"])
    path.write_text(json.dumps(proposal))
    said = started.refused("keys", "sign", started.folder, "--key", started.key("dora"))
    assert f"The proposed {role} document" in said
    assert sentence in said


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"documents": {"root": 1}, "release": null}', b"\xff"])
def test_a_damaged_proposal_is_said_in_one_sentence(started: People, content: bytes) -> None:
    (Path(started.folder) / "metadata" / "proposed.json").write_bytes(content)
    said = started.refused("keys", "status", started.folder)
    assert "proposed.json" in said or "root document cannot be read" in said
