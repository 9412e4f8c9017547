"""One pair of key and certificate after the other, and no cut between them leaves the frame without a whole one."""

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.identity.certificates import Accepted, accept, serial_of
from device_agent.identity.key import FileKeys, public_bytes
from device_agent.identity.pairs import Pairs, certified_identity
from device_agent.settings.kinds import ConfigError
from protocol.errors import Refused
from tests.device_agent.identity.cuts import cut_everywhere
from tests.device_agent.identity.issuer import NOW, Authority, pem, write_identity

FRAME = "frame-1"
CA = Authority()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_identity(tmp_path / "identity", CA, FRAME)
    return tmp_path / "identity"


def granted(pairs: Pairs) -> Accepted:
    """A certificate for the next key."""
    public = pairs.next_key().public
    request = x509.load_pem_x509_csr(pairs.next_key().request(FRAME).encode())
    assert public_bytes(request.public_key()) == public
    certificate = CA.issue(FRAME, request.public_key())
    return accept(FRAME, public, pem(certificate), pem(CA.certificate), pairs.authorities(), NOW)


def whole(pairs: Pairs) -> str:
    """The serial of the current pair, whose parts belong together and make a TLS context."""
    certificate = pairs.certificate()
    assert public_bytes(certificate.public_key()) == pairs.key().public
    pairs.context()
    return serial_of(certificate)


def test_a_frame_begins_with_the_pair_of_its_birth(folder: Path) -> None:
    pairs = Pairs(folder)
    whole(pairs)
    assert not pairs.trying
    assert certified_identity(pairs) == FRAME


def test_the_pair_before_stays_until_the_next_has_connected(folder: Path) -> None:
    pairs = Pairs(folder)
    born = whole(pairs)
    pairs.adopt(granted(pairs))
    for seen in (pairs, Pairs(folder)):
        assert seen.trying
        assert whole(seen) != born
    assert (folder / "key.pem").exists()
    pairs.confirm()
    assert not pairs.trying
    assert not (folder / "key.pem").exists(), "keys that nothing needs are destroyed"
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == [
        "ca", "cert", "current.json", "frame.json", "key",
    ]  # fmt: skip


def test_a_pair_that_does_not_connect_gives_way_to_the_one_before(folder: Path) -> None:
    pairs = Pairs(folder)
    born = whole(pairs)
    pairs.adopt(granted(pairs))
    pairs.adopt(granted(pairs))
    pairs.fall_back()
    assert whole(Pairs(folder)) == born
    assert not pairs.trying
    assert not list(folder.glob("key-*")), "nobody needs the keys of the others"
    pairs.confirm()
    pairs.fall_back()
    assert whole(pairs) == born


def test_the_next_key_is_one_and_only_its_owner_reads_it(folder: Path) -> None:
    assert Pairs(folder).next_key().public == Pairs(folder).next_key().public
    assert stat.S_IMODE((folder / "next-key.pem").stat().st_mode) == 0o600
    before = Pairs(folder).next_key().public
    (folder / "next-key.pem").write_bytes(b"damaged")
    assert Pairs(folder).next_key().public != before


def test_no_key_serves_two_certificates(folder: Path) -> None:
    pairs = Pairs(folder)
    shutil.copy(folder / "key.pem", folder / "next-key.pem")
    assert pairs.next_key().public != pairs.key().public


def test_a_cut_anywhere_leaves_a_whole_pair_and_the_step_can_be_taken_again(folder: Path, tmp_path: Path) -> None:
    pristine = tmp_path / "pristine"
    shutil.copytree(folder, pristine)
    born = whole(Pairs(folder))

    def prepare() -> None:
        shutil.rmtree(folder)
        shutil.copytree(pristine, folder)

    def step() -> None:
        pairs = Pairs(folder)
        pairs.adopt(granted(pairs))
        pairs.confirm()

    cuts = 0
    for _ in cut_everywhere(step, prepare):
        cuts += 1
        pairs = Pairs(folder)
        serial = whole(pairs)
        assert serial == born or pairs.current.name == serial
        pairs.adopt(granted(pairs))
        pairs.confirm()
        assert whole(Pairs(folder)) not in (serial, born)
        assert len(list(folder.glob("*key*.pem"))) == 1, "nothing is left lying about"
    assert cuts >= 10


@pytest.mark.parametrize("content", ["", "{", '{"pair":"../../etc"}', '{"pair":"00","before":"x y"}', "\0"])
def test_a_damaged_pointer_is_told_in_one_sentence(folder: Path, content: str) -> None:
    (folder / "current.json").write_text(content)
    with pytest.raises(ConfigError, match=r"current\.json"):
        Pairs(folder)


def test_missing_and_damaged_parts_are_told_in_one_sentence(folder: Path) -> None:
    (folder / "key.pem").write_bytes(b"no key")
    with pytest.raises(ConfigError, match="enrol the frame again"):
        Pairs(folder).key()
    (folder / "key.pem").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        Pairs(folder).key()
    (folder / "cert.pem").write_bytes(b"none")
    with pytest.raises(ConfigError, match="enrol the frame again"):
        certified_identity(Pairs(folder))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys = FileKeys()
    key = keys.make(tmp_path / "key.pem")
    with pytest.raises(FileExistsError):
        keys.make(tmp_path / "key.pem")
    assert keys.open(tmp_path / "key.pem").public == key.public


def test_a_serial_that_would_write_over_the_pair_in_use_or_names_no_file_is_refused(folder: Path) -> None:
    pairs = Pairs(folder)
    first = granted(pairs)
    pairs.adopt(first)
    pairs.confirm()
    used = whole(pairs)
    for serial in (used, "-5", "f" * 41):
        with pytest.raises(Refused):
            pairs.adopt(replace(granted(pairs), serial=serial))
        assert whole(Pairs(folder)) == used
