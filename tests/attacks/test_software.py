"""Whoever owns the broker, and any of the server's keys, makes no frame run anything that was not signed offline.

One test for each attack that TUF and Uptane name, over a real broker, against the agent's own code and disk.
"""

import pytest
from securesystemslib.signer import CryptoSigner

from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.limits import CHUNK_SIZE
from protocol.repository import ArtifactManifest
from tests.attacks.home import EVIL, SAFE, Home
from tests.device_agent.live import FRAME, OTHER
from tests.device_agent.repository import ONLINE, desired, in_days, now_ms

pytestmark = pytest.mark.slow


def test_arbitrary_software(home: Home) -> None:
    """He has the broker and no key at all."""
    thief = home.repository.stolen()
    home.offer(thief, home.evil_release(thief))
    assert home.objected("wrong_signature")
    home.unharmed()


@pytest.mark.parametrize("key", ONLINE)
def test_one_stolen_online_key(home: Home, key: str) -> None:
    thief = home.repository.stolen(key)
    home.offer(thief, home.evil_release(thief))
    assert home.objected("wrong_signature")
    home.unharmed()


def test_all_online_keys_stolen(home: Home) -> None:
    """The director is his, so the frame believes that it was asked; the model is still nobody's."""
    thief = home.repository.stolen(*ONLINE)
    home.offer(thief, home.evil_release(thief))
    home.refused("wrong_signature")
    assert not home.store.has(sha256_hex(EVIL))
    home.unharmed()


def test_rollback(home: Home) -> None:
    """He gives back the whole repository as it was, all of it once rightly signed."""
    before = dict(home.repository.retained)
    newer = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    home.offer(home.repository, newer)
    home.settled("committed")
    home.good = newer
    third = home.repository.release("portrait", "3.0", [home.base])
    home.repository.retained = before
    home.offer(home.repository, third)
    home.refused("old_version")
    home.unharmed(tried=2)


def test_replayed_documents(home: Home) -> None:
    """An older timestamp under the name of the newest one."""
    old = home.repository.documents["timestamp"]
    home.good = home.repository.release("portrait", "2.0", [home.base])
    home.offer(home.repository, home.good)
    home.settled("committed")
    release = home.repository.release("portrait", "3.0", [home.base])
    home.repository.retained[topics.meta_topic("timestamp", home.repository.versions["timestamp"])] = old
    home.offer(home.repository, release)
    home.refused("old_version")
    home.unharmed(tried=2)


def test_freeze(home: Home) -> None:
    """He lets nothing newer through until the documents expire; the frame plays on and installs nothing."""
    home.repository.expires["timestamp"] = in_days(-0.01)
    release = home.repository.release("portrait", "2.0", [home.base])
    home.offer(home.repository, release)
    home.refused("expired")
    home.unharmed()


def test_frozen_desired_state(home: Home) -> None:
    """What the director said last week."""
    release = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    home.offer(home.repository, release, issued_at=now_ms() - 10**9, expires_at=now_ms() - 1_000)
    home.refused("expired")
    home.unharmed()


def test_mix_and_match(home: Home) -> None:
    """Each document was rightly signed, at another time."""
    old = home.repository.documents["release"]
    number = home.repository.versions["release"]
    release = home.repository.release("portrait", "2.0", [home.base])
    home.repository.retained[topics.meta_topic("release", home.repository.versions["release"])] = old
    assert home.repository.versions["release"] > number
    home.offer(home.repository, release)
    home.refused("roles_disagree", "old_version")
    home.unharmed()


def test_endless_data(home: Home) -> None:
    """Documents and chunks longer than any that were announced."""
    release = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    newest = home.repository.versions["timestamp"]
    home.repository.retained[topics.meta_topic("timestamp", newest)] = b'{"signatures": [' + b" " * 70_000
    home.offer(home.repository, release)
    home.refused("not_available")
    home.repository.publish()
    for chunk in split(SAFE + b"2"):
        home.repository.retained[topics.chunk_topic(sha256_hex(chunk))] = chunk + b"\0" * 6_000
    home.offer(home.repository, release)
    home.refused("not_available", "tampered_chunk")
    home.unharmed()


def test_slow_retrieval(home: Home) -> None:
    """He leaves every other answer out: the frame gives up after a bounded number of tries, and says so."""
    release = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    last = split(SAFE + b"2")[-1]
    del home.repository.retained[topics.chunk_topic(sha256_hex(last))]
    home.offer(home.repository, release)
    home.refused("not_available")
    home.unharmed()


def test_wrong_frame(home: Home) -> None:
    """The director meant it for another frame."""
    release = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    home.offer(home.repository, release, frame_id=OTHER)
    assert OTHER in home.objected("wrong_frame").detail
    home.unharmed()


def test_replayed_desired_state(home: Home) -> None:
    """An older word of the director's to this very frame, not expired."""
    newer = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    first = home.repository.envelope(desired(FRAME, 1, newer))
    home.offer(home.repository, home.good)
    home.settled("committed")
    home.send(first)
    assert home.objected("old_version")
    home.unharmed()


@pytest.mark.parametrize("role", ["base", "release"])
def test_revoked_key(home: Home, role: str) -> None:
    """The key was good once; its delegation names another one since."""
    stolen = home.repository.keys[role]
    home.repository.keys[role] = CryptoSigner.generate_ed25519()
    home.repository.publish()
    home.offer(home.repository, home.good)
    home.settled("committed")
    home.repository.forged[role] = stolen
    release = home.repository.release("portrait", "6.6", [home.repository.base(EVIL, "6.6")])
    home.offer(home.repository, release)
    home.refused("wrong_signature")
    home.unharmed()


def test_revoked_director(home: Home) -> None:
    """His copy of the director's key is of no use once a newer root names another."""
    stolen = home.repository.director
    home.repository.rotate_director()
    home.repository.publish()
    home.offer(home.repository, home.good)
    home.settled("committed")
    release = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    home.put(home.repository)
    home.send(home.repository.envelope(desired(FRAME, 99, release), stolen))
    assert home.objected("wrong_signature")
    home.unharmed()


@pytest.mark.parametrize("wrong", ["flipped", "truncated", "another"])
def test_tampered_and_truncated_chunk(home: Home, wrong: str) -> None:
    release = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2", "2.0")])
    last = split(SAFE + b"2")[-1]
    bad = {"flipped": bytes([last[0] ^ 1]) + last[1:], "truncated": last[:-1], "another": b"x" * len(last)}[wrong]
    home.repository.retained[topics.chunk_topic(sha256_hex(last))] = bad
    home.offer(home.repository, release)
    home.refused("tampered_chunk")
    home.unharmed()


def test_epoch_downgrade(home: Home) -> None:
    """A release that was rightly signed, and that a later epoch has put away for good."""
    repository = home.repository
    ref = repository.add("base/portrait-2.0.bundle", SAFE + b"2", ArtifactManifest(kind="base_model"))
    newer = repository.release("portrait", "2.0", [ref])
    path = newer.release.path
    custom = dict(repository.files[path].unrecognized_fields["custom"], security_epoch=3)
    repository.files[path].unrecognized_fields["custom"] = custom
    repository.publish()
    home.offer(repository, newer)
    home.settled("committed")
    old, home.good = home.good, newer
    home.offer(repository, old)
    home.refused("old_epoch")
    home.unharmed(tried=2)


def test_adapter_for_another_base(home: Home) -> None:
    other = home.repository.base(SAFE + b"other", "0.9")
    adapter = home.repository.adapter(b"lora" * 100, other, "other-2.0")
    release = home.repository.release("portrait", "2.0", [home.base, adapter])
    home.offer(home.repository, release)
    home.refused("wrong_base_model")
    home.unharmed()


def test_a_frame_that_withstood_all_that_still_updates(home: Home) -> None:
    """Nothing above is a refusal of everything."""
    thief = home.repository.stolen(*ONLINE)
    home.offer(thief, home.evil_release(thief))
    home.settled("failed")
    for _ in range(3):
        home.repository.publish()
    newer = home.repository.release("portrait", "2.0", [home.repository.base(SAFE + b"2" * CHUNK_SIZE, "2.0")])
    home.offer(home.repository, newer)
    home.settled("committed")
    assert home.core.playing is not None
    assert home.core.playing.release == newer.release.sha256
