import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from framectl.__main__ import main
from framectl.documents import KEY_ROLES
from framectl.errors import CommandFailed
from framectl.files import write_file
from framectl.offline import OfflineFolder
from framectl.signers import load
from protocol.repository import DELEGATIONS
from tests.framectl.conftest import Desk


def test_a_new_folder_verifies_from_its_roots_down(desk: Desk, online_file: Path) -> None:
    online = json.loads(online_file.read_text())
    with OfflineFolder.open(desk.offline) as folder:
        root, director = folder.documents["root"].signed, folder.documents["director-root"].signed
        assert root.roles["snapshot"].keyids == [online["snapshot"]["keyid"]]
        assert root.roles["timestamp"].keyids == [online["timestamp"]["keyid"]]
        assert director.roles["targets"].keyids == [online["director"]["keyid"]]
        assert not director.roles["snapshot"].keyids
        assert not director.roles["timestamp"].keyids
        roles = folder.documents["targets"].signed.delegations.roles
        assert {name: tuple(role.paths) for name, role in roles.items()} == DELEGATIONS
        assert root.expires - datetime.now(UTC) > timedelta(days=364)


def test_every_role_has_a_key_of_its_own_that_only_the_owner_can_read(desk: Desk) -> None:
    files = sorted((desk.offline / "keys").iterdir())
    assert [file.stem for file in files] == sorted(KEY_ROLES)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert len({file.read_bytes() for file in files}) == len(KEY_ROLES)


def test_keys_are_never_overwritten(desk: Desk, online_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (desk.offline / "keys" / "root.pem").read_bytes()
    assert main(["keys", "create", "--out", str(desk.offline), "--online", str(online_file)]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert (desk.offline / "keys" / "root.pem").read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"snapshot": {"keyid": "a", "key": {}}}', '{"snapshot": {"keyid": "a", "key": 1}}']
)
def test_odd_online_keys_are_refused_and_leave_nothing_behind(tmp_path: Path, text: str) -> None:
    (tmp_path / "online.json").write_text(text)
    out = tmp_path / "offline"
    assert main(["keys", "create", "--out", str(out), "--online", str(tmp_path / "online.json")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["online.json"]


def test_a_document_changed_on_disk_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    path = desk.offline / "metadata" / "base.json"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":7'))
    assert desk.sign_base() == 1
    assert "The base document has 0 of 1 signatures: missing base (" in capsys.readouterr().err


def test_an_interrupted_advance_is_completed_at_the_next_opening(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def cut_after_two(path: Path, data: bytes, mode: int = 0o644) -> None:
        if len(written) == 2:
            raise CommandFailed("power cut")
        write_file(path, data, mode)
        written.append(path)

    monkeypatch.setattr("framectl.offline.write_file", cut_after_two)
    assert desk.sign_base() == 1
    monkeypatch.undo()
    with OfflineFolder.open(desk.offline) as folder:
        assert folder.documents["base"].signed.version == 2
        assert folder.documents["release"].signed.version == 2
        assert folder.release_path("talking-portrait", "1.0").exists()
    assert desk.sign_adapter() == 0


def test_two_commands_do_not_share_a_folder(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    with OfflineFolder.open(desk.offline):
        assert desk.sign_base() == 1
    assert "Another command is using" in capsys.readouterr().err
    assert desk.sign_base() == 0


def test_the_newest_root_is_the_one_in_force(desk: Desk) -> None:
    with OfflineFolder.open(desk.offline) as folder:
        newer: Metadata[Root] = Metadata.from_bytes(folder.documents["root"].to_bytes())
        newer.signed.version = 10
        newer.sign(load(str(desk.offline / "keys" / "root.pem")))
    (desk.offline / "metadata" / "10.root.json").write_bytes(newer.to_bytes())
    with OfflineFolder.open(desk.offline) as folder:
        assert folder.documents["root"].signed.version == 10
