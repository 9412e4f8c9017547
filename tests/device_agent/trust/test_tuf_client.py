"""``python -m device_agent.tuf_client`` against a real server: what it asks for, keeps, and refuses."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, SuccinctRoles

from device_agent.tuf_client.__main__ import main
from device_agent.tuf_client.fetcher import HttpFetcher
from protocol.errors import Refused
from tests.device_agent.repository import FAST_FORWARD
from tests.device_agent.trust.served import Served, yesterday

CHECK = ["/metadata/2.root.json", "/metadata/timestamp.json"]
"""What is asked for where nothing is new."""


@dataclass
class Client:
    """The command line over folders of its own."""

    served: Served
    folder: Path

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def downloads(self) -> Path:
        return self.folder / "targets"

    def init(self, root: bytes | None = None) -> int:
        path = self.folder / "initial.json"
        path.write_bytes(self.served.roots[0] if root is None else root)
        return main(["--metadata-dir", str(self.metadata), "init", str(path)])

    def refresh(self) -> int:
        self.served.asked.clear()
        where = ["--metadata-dir", str(self.metadata), "--metadata-url", f"{self.served.url}/metadata/"]
        return main([*where, "refresh"])

    def download(self, *names: str) -> int:
        self.served.asked.clear()
        where = ["--metadata-dir", str(self.metadata), "--metadata-url", f"{self.served.url}/metadata"]
        targets = [part for name in names for part in ("--target-name", name)]
        to = ["--target-base-url", f"{self.served.url}/targets/", "--target-dir", str(self.downloads)]
        return main([*where, *targets, *to, "download"])

    def versions(self) -> dict[str, int]:
        """Of everything that is kept."""
        return {path.stem: json.loads(path.read_bytes())["signed"]["version"] for path in self.metadata.glob("*.json")}

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.downloads.rglob("*")) if path.is_file()]


@pytest.fixture
def served() -> Iterator[Served]:
    with Served().running() as served:
        yield served


@pytest.fixture
def client(served: Served, tmp_path: Path) -> Client:
    client = Client(served, tmp_path)
    assert client.init() == 0
    return client


# --- what it asks for and keeps ---------------------------------------------------------------------------------------


def test_a_first_refresh_asks_in_tufs_order_and_keeps_what_it_was_given(client: Client, served: Served) -> None:
    assert client.refresh() == 0
    assert served.asked == [*CHECK, "/metadata/1.snapshot.json", "/metadata/1.targets.json"]
    assert (client.metadata / "timestamp.json").read_bytes() == served.files["/metadata/timestamp.json"]
    assert client.versions() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}


def test_a_second_refresh_asks_only_whether_there_is_something_new(client: Client, served: Served) -> None:
    assert client.refresh() == 0
    assert client.refresh() == 0
    assert served.asked == CHECK


def test_the_command_runs_as_a_program_and_says_what_is_wrong_in_one_sentence(client: Client, served: Served) -> None:
    command = [sys.executable, "-m", "device_agent.tuf_client", "--metadata-dir", str(client.metadata)]
    good = subprocess.run([*command, "--metadata-url", f"{served.url}/metadata", "refresh"], capture_output=True)
    assert (good.returncode, good.stderr) == (0, b"")
    bad = subprocess.run([*command, "--metadata-url", f"{served.url}/nowhere", "refresh"], capture_output=True)
    assert (bad.returncode, bad.stderr) == (1, b"The repository has no timestamp document: publish it.\n")


@pytest.mark.parametrize("consistent", [True, False])
@pytest.mark.parametrize("hashes", [("sha256",), ("sha512",), ("sha512", "sha256")])
def test_a_target_is_fetched_once_and_again_when_it_changed(
    tmp_path: Path, consistent: bool, hashes: tuple[str, ...]
) -> None:
    with Served(consistent=consistent, hashed=True).running() as served:
        client = Client(served, tmp_path)
        assert client.init() == 0
        served.add("targets", "films/a b?.txt", b"first", hashes)
        served.publish()
        assert client.download("films/a b?.txt") == 0
        assert client.files() == [b"first"]
        assert client.download("films/a b?.txt") == 0
        assert served.asked == CHECK
        served.add("targets", "films/a b?.txt", b"second", hashes)
        served.publish()
        assert client.download("films/a b?.txt") == 0
        assert client.files() == [b"second"]


def test_several_targets_are_fetched_in_order_until_one_fails(client: Client, served: Served) -> None:
    served.add("targets", "a", b"a")
    served.add("targets", "b", b"b")
    served.publish()
    assert client.download("a", "missing", "b") == 1
    assert client.files() == [b"a"]


def test_a_root_that_does_not_hold_is_not_trusted(client: Client, served: Served, tmp_path: Path) -> None:
    other = Client(served, tmp_path / "other")
    other.folder.mkdir()
    assert other.init(served.files["/metadata/1.targets.json"]) == 1
    assert other.init(served.roots[0].replace(b'"threshold":1', b'"threshold":2')) == 1
    assert other.refresh() == 1
    assert served.asked == []


def test_rotated_roots_are_walked_and_kept_though_the_last_has_expired(client: Client, served: Served) -> None:
    for _ in range(3):
        served.rotate("root", "targets", "snapshot", "timestamp")
    served.publish()
    assert client.refresh() == 0
    assert client.versions()["root"] == 4
    served.root.expires = yesterday()
    served.rotate("root")
    served.publish()
    assert client.refresh() == 1
    assert (client.versions()["root"], client.versions()["timestamp"]) == (5, 2)


# --- delegations ------------------------------------------------------------------------------------------------------


def delegated(name: str, *paths: str, terminating: bool = False) -> DelegatedRole:
    return DelegatedRole(name, [], 1, terminating, list(paths))


def test_delegations_are_asked_depth_first_and_a_terminating_one_ends_the_search(
    client: Client, served: Served
) -> None:
    served.delegate("targets", delegated("A", "*.txt"))
    served.delegate("targets", delegated("B", "*"))
    served.delegate("A", delegated("C", "c*"))
    served.delegate("B", delegated("D", "*.end", terminating=True))
    served.delegate("B", delegated("E", "*"))
    served.add("E", "b.txt", b"E's")
    served.add("E", "b.end", b"hidden behind D")
    served.publish()
    assert client.refresh() == 0

    def roles(name: str, status: int) -> list[str]:
        assert client.download(name) == status
        return [path.split(".")[1] for path in served.asked[2:] if path.startswith("/metadata")]

    assert roles("b.txt", 0) == ["A", "B", "E"]
    assert client.files() == [b"E's"]
    assert roles("b.end", 1) == ["D"]
    assert roles("c.txt", 1) == ["C"]


def test_cycles_and_endless_delegations_end(client: Client, served: Served) -> None:
    before = "targets"
    for number in range(40):
        served.delegate(before, delegated(f"r{number}", "*"))
        before = f"r{number}"
    served.delegate("r3", delegated("r0", "*"))
    served.add("r39", "deep", b"too deep")
    served.publish()
    assert client.download("deep") == 1
    assert sum("/1.r" in path for path in served.asked) == 32


def test_a_role_reached_through_another_role_must_be_let_in_by_that_one(client: Client, served: Served) -> None:
    """A document that was good through A is not good through B, which names another key for the same role."""
    served.delegate("targets", delegated("A", "a/*"))
    served.delegate("targets", delegated("B", "b/*"))
    served.delegate("A", delegated("shared", "a/*"))
    honest = served.keys.pop("shared")
    served.delegate("B", delegated("shared", "b/*"))
    served.keys["shared"] = honest
    served.add("shared", "a/x", b"A's")
    served.add("shared", "b/x", b"not B's")
    served.publish()
    assert client.download("a/x", "b/x") == 1
    assert client.files() == [b"A's"]


def test_a_delegation_may_go_by_hash_prefixes_or_bins(client: Client, served: Served) -> None:
    bins = SuccinctRoles([], 1, 3, "bin")
    served.delegate("targets", bins, *bins.get_roles())
    name = bins.get_role_for_target("film")
    served.add(name, "film", b"in its bin")
    served.publish()
    assert client.download("film") == 0
    assert client.files() == [b"in its bin"]


def test_only_paths_with_the_hash_prefix_are_a_roles_business(client: Client, served: Served) -> None:
    prefixes = DelegatedRole("low", [], 1, True, None, path_hash_prefixes=[f"{digit:x}" for digit in range(8)])
    served.delegate("targets", prefixes)
    names = [f"file-{number}" for number in range(12)]
    mine = [name for name in names if prefixes.is_delegated_path(name)]
    assert 0 < len(mine) < len(names)
    for name in names:
        served.add("low", name, name.encode())
    served.publish()
    assert [name for name in names if client.download(name) == 0] == mine


def test_a_role_may_have_any_name_and_stays_in_the_folder(client: Client, served: Served) -> None:
    served.delegate("targets", delegated("../up?#", "*"))
    served.add("../up?#", "x", b"x")
    served.publish()
    assert client.download("x") == 0
    assert "/metadata/1...%2Fup%3F%23.json" in served.asked
    assert sorted(path.name for path in client.folder.iterdir()) == ["initial.json", "metadata", "targets"]


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "A"])
def test_a_document_under_another_key_is_refused_and_not_kept(client: Client, served: Served, role: str) -> None:
    served.delegate("targets", delegated("A", "*"))
    served.add("A", "x", b"x")
    served.publish()
    assert client.download("x") == 0
    kept = client.versions()
    served.forged[role] = CryptoSigner.generate_ed25519()
    served.publish(*(("root",) if role == "root" else ()))
    assert client.download("x") == 1
    assert client.versions()[role] == kept[role]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_an_expired_document_is_refused_and_not_kept(client: Client, served: Served, role: str) -> None:
    assert client.refresh() == 0
    {"timestamp": served.timestamp, "snapshot": served.snapshot, **served.targets}[role].expires = yesterday()
    served.publish()
    assert client.refresh() == 1
    assert client.versions()[role] == 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_version_that_was_passed_does_not_come_back(client: Client, served: Served, role: str) -> None:
    served.publish()
    assert client.refresh() == 0
    {"timestamp": served.timestamp, "snapshot": served.snapshot, **served.targets}[role].version -= 2
    served.publish(*{"timestamp": ["timestamp"], "snapshot": ["snapshot", "timestamp"]}.get(role, []))
    assert client.refresh() == 1
    assert client.versions()[role] == 2


def test_documents_of_two_states_do_not_mix(tmp_path: Path) -> None:
    with Served(hashed=True).running() as served:
        client = Client(served, tmp_path)
        assert client.init() == 0
        first = served.files["/metadata/1.targets.json"]
        served.add("targets", "x", b"x")
        served.publish()
        served.files["/metadata/2.targets.json"] = first
        assert client.refresh() == 1
        assert client.versions() == {"root": 1, "timestamp": 2, "snapshot": 2}


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_a_signed_document_that_is_not_the_one_in_the_list_above_is_refused(tmp_path: Path, role: str) -> None:
    """The right key, the right version, as many bytes: only the hash in the list above tells them apart."""
    with Served(hashed=True).running() as served:
        client = Client(served, tmp_path)
        assert client.init() == 0
        signed = served.snapshot if role == "snapshot" else served.targets["targets"]
        signed.expires += dt.timedelta(days=1)
        served.files[f"/metadata/1.{role}.json"] = served.sign(role, signed)
        assert client.refresh() == 1
        assert role not in client.versions()


def test_a_snapshot_of_another_version_than_the_timestamp_names_is_refused(client: Client, served: Served) -> None:
    served.snapshot.version = 7
    served.files["/metadata/1.snapshot.json"] = served.sign("snapshot", served.snapshot)
    assert client.refresh() == 1
    assert "snapshot" not in client.versions()


def test_a_snapshot_that_forgets_a_role_is_refused(client: Client, served: Served) -> None:
    served.delegate("targets", delegated("A", "*"))
    served.publish()
    assert client.refresh() == 0
    del served.snapshot.meta["A.json"]
    served.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.versions()["snapshot"] == 2


def test_new_online_keys_cure_a_fast_forward(client: Client, served: Served) -> None:
    served.timestamp.version = served.snapshot.version = FAST_FORWARD
    served.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    served.timestamp.version = served.snapshot.version = 1
    served.publish()
    assert client.refresh() == 1
    served.rotate("snapshot", "timestamp")
    served.publish()
    assert client.refresh() == 0
    assert client.versions()["timestamp"] == 3


def test_a_file_that_is_not_the_signed_one_leaves_nothing_behind(client: Client, served: Served) -> None:
    target = served.add("targets", "x", b"signed")
    served.publish()
    path = f"/targets/{target.hashes['sha256']}.x"
    for wrong in (b"forged", b"signed and more", b"sign"):
        served.files[path] = wrong
        assert client.download("x") == 1
        assert client.files() == []
    served.files[path] = b"signed"
    assert client.download("x") == 0


@pytest.mark.parametrize(
    ("name", "limit"),
    [("timestamp", 16_384), ("2.snapshot", 2_000_000), ("2.targets", 5_000_000), ("2.root", 512_000)],
)
def test_a_document_without_end_is_given_up(client: Client, served: Served, name: str, limit: int) -> None:
    served.publish()
    served.publish("root")
    served.files[f"/metadata/{name}.json"] += b" " * limit
    assert client.refresh() == 1


def test_a_document_is_read_no_further_than_its_signed_length(tmp_path: Path) -> None:
    with Served(hashed=True).running() as served:
        client = Client(served, tmp_path)
        assert client.init() == 0
        served.files["/metadata/1.targets.json"] += b" "
        served.publish("snapshot", "timestamp")
        assert client.refresh() == 1


@pytest.mark.parametrize("document", [b"", b"[" * 65_536, b"{}", b'{"signed": NaN}', b"\xff\xfe", b'{"signed":1e999}'])
@pytest.mark.parametrize("name", ["2.root", "timestamp", "1.snapshot"])
def test_garbage_is_refused(client: Client, served: Served, name: str, document: bytes) -> None:
    served.files[f"/metadata/{name}.json"] = document
    assert client.refresh() == 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "nonsense", f"http://127.0.0.1:{1}/x"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(Refused):
        HttpFetcher(timeout_s=1.0).small(url, 100)
