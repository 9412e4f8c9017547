"""TUF documents that are damaged, or lie under a good signature, are believed or refused; and the next good one counts.

Signed lies matter as much as unsigned ones: a key that was stolen, or software that was careless with one, must not be
able to stop a frame for good either.
"""

import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.image import ImageTrust, NoTrustAnchor
from device_agent.trust.repository import RepositoryTrust
from protocol import topics
from protocol.errors import Refused
from protocol.repository import DIRECTOR_ROOT
from tests.device_agent.fuzzing import bounded, lying
from tests.device_agent.hostile import BOMBS, fuzz, hostile
from tests.device_agent.repository import Repository

ORDER = ("timestamp", "snapshot", "targets", "base", "release")


@functools.cache
def repository() -> Repository:
    """With a second root of either chain, so that there is one to walk to."""
    made = Repository()
    made.release("portrait", "1.0", [made.base(b"model" * 100)])
    return made


@functools.cache
def next_roots() -> tuple[dict[str, bytes], dict[str, bytes]]:
    anchors = repository().anchors()
    repository().sign_root()
    repository().sign_director_root()
    repository().publish()
    return anchors, repository().anchors()


@functools.cache
def documents() -> dict[str, bytes]:
    _, newest = next_roots()
    return {**repository().documents, **newest}


def resigned(role: str, signed: Any) -> bytes | None:
    """``signed`` under the right key, or None where no canonical form of it exists."""
    key = repository().director_offline if role == DIRECTOR_ROOT else repository().keys[role]
    try:
        covered = encode_canonical(signed)
        assert covered is not None
        signature = key.sign(covered.encode())
        return json.dumps({"signed": signed, "signatures": [signature.to_dict()]}).encode()
    except Exception:
        return None


@st.composite
def document(draw: st.DrawFn, role: str) -> bytes:
    """What may come in place of the document of ``role``."""
    good = documents()[role]
    if draw(st.booleans()):
        lie = resigned(role, draw(lying(json.loads(good)["signed"])))
        if lie is not None:
            return lie
    return draw(hostile([good]))


def feed(trust: ImageTrust, role: str, given: bytes) -> None:
    """Everything below ``role`` as it should be, then this."""
    anchors, newest = next_roots()
    for chain in ("root", DIRECTOR_ROOT):
        trust.update_root(chain, given if role == chain else newest[chain])
        if role == chain:
            return
    trust.begin()
    for step in ORDER:
        trust.update(step, given if role == step else documents()[step])
        if role == step:
            return
    assert anchors


@pytest.mark.parametrize("role", ["root", DIRECTOR_ROOT, *ORDER])
@fuzz(60)
@given(data=st.data())
def test_a_document_is_believed_or_refused(role: str, data: st.DataObject) -> None:
    given_document = data.draw(document(role))
    stored = MemoryDocuments(next_roots()[0])
    trust = ImageTrust(stored)
    with bounded(30):
        try:
            feed(trust, role, given_document)
            for path in ("base/portrait-1.0.bundle", "release/portrait-1.0.json"):
                trust.target(path)
        except Refused as refused:
            assert refused.detail.endswith(".")
            assert "\n" not in refused.detail


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "base"])
@fuzz(40)
@given(data=st.data())
def test_a_stored_document_that_is_damaged_does_not_keep_the_good_one_out(role: str, data: st.DataObject) -> None:
    """Bytes on a disk that went bad carry no signature, so they raise no floor and are replaced."""
    stored = MemoryDocuments({**next_roots()[0], role: data.draw(hostile([documents()[role]]))})
    trust = ImageTrust(stored)
    for chain in ("root", DIRECTOR_ROOT):
        trust.update_root(chain, next_roots()[1][chain])
    trust.begin()
    trust.update("timestamp", documents()["timestamp"])
    for step in ORDER[1:]:
        if trust.needed(step) is not None:
            trust.update(step, documents()[step])
    assert trust.target("base/portrait-1.0.bundle").length == 500


@pytest.mark.parametrize("chain", ["root", DIRECTOR_ROOT])
@fuzz(60)
@given(data=st.data())
def test_an_anchor_that_is_damaged_is_good_or_refused(chain: str, data: st.DataObject) -> None:
    stored = MemoryDocuments({**next_roots()[0], chain: data.draw(document(chain))})
    with bounded(30):
        try:
            ImageTrust(stored)
        except NoTrustAnchor as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: repr(bomb[:8]))
@pytest.mark.parametrize("role", ["root", *ORDER])
def test_bombs_are_refused_cheaply(role: str, bomb: bytes) -> None:
    with bounded(25, seconds=2), pytest.raises(Refused):
        feed(ImageTrust(MemoryDocuments(next_roots()[0])), role, bomb)


@fuzz(80)
@given(st.data())
def test_any_graph_of_delegations_is_searched_to_an_end(data: st.DataObject) -> None:
    """Also what the walk over HTTP may meet: every kind of delegation, wrong in every way, under good signatures."""
    made = json.loads(documents()["targets"])["signed"]
    keyid = next(iter(made["delegations"]["keys"]))
    made["delegations"]["roles"] += [
        {"name": "a", "keyids": [keyid], "threshold": 1, "terminating": False, "paths": ["*", "**", "[!", "a[", "?"]},
        {
            "name": "h",
            "keyids": [keyid],
            "threshold": 1,
            "terminating": True,
            "path_hash_prefixes": ["", "0", "f" * 64],
        },
    ]
    if data.draw(st.booleans()):
        made["delegations"] = {
            "keys": made["delegations"]["keys"],
            "succinct_roles": {"keyids": [keyid], "threshold": 1, "bit_length": 3, "name_prefix": "bin"},
        }
    lie = resigned("targets", data.draw(lying(made)))
    if lie is None:
        return
    stored = MemoryDocuments(next_roots()[0])
    trust = RepositoryTrust(stored)
    trust.roots.update(next_roots()[1]["root"])
    trust.begin()
    trust.take_timestamp(documents()["timestamp"])
    trust.take_snapshot(documents()["snapshot"])
    try:
        trust.take_targets(lie)
        search = trust.find(data.draw(st.sampled_from(["base/portrait-1.0.bundle", "[", "a/b/c", "", "x" * 500])))
        needed = next(search)
        while True:
            needed = search.send(documents().get(needed.role, b"{}"))
    except StopIteration:
        pass
    except Refused as refused:
        assert refused.detail.endswith(".")


def test_the_documents_that_are_damaged_here_are_good() -> None:
    trust = ImageTrust(MemoryDocuments(next_roots()[0]))
    feed(trust, "release", documents()["release"])
    assert trust.target("base/portrait-1.0.bundle").length == 500
    assert topics.meta_topic("base", 3) in repository().retained
