"""A frame that was away for a year walks every root since, whatever happens in between, and installs afterwards."""

import pytest
from securesystemslib.signer import CryptoSigner

from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.image import ImageTrust
from device_agent.trust.roots import COPY, NoTrustAnchor, RootChain
from protocol import topics
from protocol.errors import Reason, Refused
from protocol.exchange import Exchange, Subscribe
from protocol.repository import DIRECTOR_ROOT
from protocol.sequences import refresh
from tests.device_agent.frame import FRAME, QUICK, Frame
from tests.device_agent.repository import Repository, desired, in_days

YEAR = 60
"""Root versions that came out while the frame lay in a drawer."""


class Cut(BaseException):
    """The power went."""


class CutDocuments(MemoryDocuments):
    """Loses power right after it stored a document, again and again."""

    def save(self, name: str, document: bytes) -> None:
        super().save(name, document)
        raise Cut


@pytest.fixture(scope="module")
def away() -> tuple[Repository, dict[str, bytes]]:
    """A repository in which every key changed with each of the roots, and what the frame was born with."""
    repository = Repository()
    anchors = repository.anchors()
    for chain in ("root", DIRECTOR_ROOT):
        repository.expires[chain] = in_days(-1)
    for version in range(2, YEAR + 1):
        if version == YEAR:
            repository.expires.clear()
        repository.rotate("root", "targets", "snapshot", "timestamp")
        repository.rotate_director(offline=True)
    for role in ("base", "lora", "agent", "release"):
        repository.keys[role] = CryptoSigner.generate_ed25519()
    repository.publish()
    return repository, anchors


def read(documents: MemoryDocuments, repository: Repository) -> None:
    """One refresh, as far as it goes."""
    trust = ImageTrust(documents)
    exchange = Exchange(refresh(trust, ["base"], QUICK))
    todo = exchange.start(0.0, connected=True)
    while todo:
        command = todo.pop(0)
        if isinstance(command, Subscribe) and command.topic in repository.retained:
            todo += exchange.received(command.topic, repository.retained[command.topic], 0.0)
    assert exchange.done is not None
    if exchange.done.error is not None:
        raise exchange.done.error


def test_a_frame_that_was_away_for_a_year_installs(away: tuple[Repository, dict[str, bytes]]) -> None:
    repository, anchors = away
    frame = Frame(repository.retained, anchors)
    frame.connect()
    release = repository.release("portrait", "9.0", [repository.base(b"model" * 100, "9.0")])
    frame.give(repository.envelope(desired(FRAME, 1, release)))
    frame.wait(60)
    assert (frame.reports[-1].state, frame.reports[-1].release) == ("committed", release.release.sha256)
    roots = [topic for topic in frame.fetched if "root/" in topic]
    assert len(roots) == 2 * (YEAR - 1)
    assert [event.kind for event in frame.health] == []


def test_a_cut_between_any_two_roots_goes_on_with_the_next(away: tuple[Repository, dict[str, bytes]]) -> None:
    repository, anchors = away
    held = dict(anchors)
    starts = 0
    while True:
        starts += 1
        documents = CutDocuments(held)
        try:
            read(documents, repository)
        except Cut:
            names = [*repository.documents, "root" + COPY, DIRECTOR_ROOT + COPY]
            held = {name: data for name in names if (data := documents.load(name)) is not None}
            continue
        break
    roots = 2 * (YEAR - 1)
    assert starts > 2 * roots, "one cut at least before each root's copy, and one after it"
    assert held["root"] == repository.documents["root"]
    assert held[DIRECTOR_ROOT] == repository.documents[DIRECTOR_ROOT]


def test_a_refresh_that_waited_while_another_went_on_stores_no_older_root(
    away: tuple[Repository, dict[str, bytes]],
) -> None:
    repository, anchors = away
    documents = MemoryDocuments(anchors)
    waited = ImageTrust(documents)
    read(documents, repository)
    newest = documents.load(DIRECTOR_ROOT)
    waited.update_root(DIRECTOR_ROOT, repository.retained[topics.meta_topic(DIRECTOR_ROOT, 2)])
    assert waited.root_version(DIRECTOR_ROOT) == 2
    assert documents.load(DIRECTOR_ROOT) == newest


def test_no_root_is_skipped(away: tuple[Repository, dict[str, bytes]]) -> None:
    repository, anchors = away
    trust = ImageTrust(MemoryDocuments(anchors))
    for chain in ("root", DIRECTOR_ROOT):
        third = repository.retained[topics.meta_topic(chain, 3)]
        with pytest.raises(Refused) as caught:
            trust.update_root(chain, third)
        assert caught.value.reason is Reason.WRONG_SIGNATURE
        assert trust.root_version(chain) == 1


def test_a_root_that_comes_again_or_from_the_future_is_refused() -> None:
    repository = Repository()
    first = repository.documents["root"]
    repository.sign_root()
    second = repository.documents["root"]
    repository.sign_root()
    trust = ImageTrust(MemoryDocuments({**repository.anchors(), "root": first}))
    with pytest.raises(Refused) as skipped:
        trust.update_root("root", repository.documents["root"])
    assert skipped.value.reason is Reason.ROLES_DISAGREE
    trust.update_root("root", second)
    with pytest.raises(Refused) as again:
        trust.update_root("root", first)
    assert again.value.reason is Reason.OLD_VERSION


@pytest.mark.parametrize(("old_ones", "new_ones"), [(3, 2), (2, 3), (5, 0), (0, 5)])
def test_a_new_root_needs_the_thresholds_of_both_roots(old_ones: int, new_ones: int) -> None:
    repository = Repository()
    repository.cosigners["root"] = [CryptoSigner.generate_ed25519() for _ in range(4)]
    repository.thresholds["root"] = 3
    repository.sign_root()
    trust = ImageTrust(MemoryDocuments(repository.anchors()))
    old = repository.signers("root")
    repository.keys["root"], *repository.cosigners["root"] = (CryptoSigner.generate_ed25519() for _ in range(5))
    new = repository.signers("root")
    repository.sign_root()
    with pytest.raises(Refused) as caught:
        trust.update_root("root", repository.resign("root", [*old[:old_ones], *new[:new_ones]]))
    assert caught.value.reason is Reason.WRONG_SIGNATURE
    trust.update_root("root", repository.resign("root", [*old[:3], *new[2:]]))
    assert trust.root_version("root") == 3


@pytest.mark.parametrize("chain", ["root", DIRECTOR_ROOT])
@pytest.mark.parametrize("rot", [b"", b"{}", b"\0" * 4_000])
def test_a_root_that_rotted_on_the_flash_is_read_from_its_copy(chain: str, rot: bytes) -> None:
    repository = Repository()
    documents = MemoryDocuments(repository.anchors())
    assert RootChain(documents, chain, twice=True).root.version == 1, "the first start makes the copy"
    documents.save(chain, rot)
    assert RootChain(documents, chain, twice=True).root.version == 1
    assert documents.load(chain) == repository.documents[chain], "and it is mended"
    documents.save(chain + COPY, rot)
    assert RootChain(documents, chain, twice=True).root.version == 1
    documents.save(chain, rot)
    documents.save(chain + COPY, rot)
    with pytest.raises(NoTrustAnchor, match="that can be trusted"):
        RootChain(documents, chain, twice=True)
