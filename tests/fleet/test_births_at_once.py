"""Two at once: a claim is good for one of them, a key for one frame."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from fleet.models import BrokerUsers, FrameCertificate
from fleet.services.certificates import good_certificates, renew
from fleet.services.claims import make_claims, redeem
from protocol.errors import Refused
from tests.fleet.births import awaited, claim_request, csr, new_key
from tests.fleet.factories import make_frame

pytestmark = pytest.mark.django_db(transaction=True)


def _at_once(*works: Callable[[], object]) -> list[object]:
    """What each returned, or the refusal it met."""
    results: list[object] = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(place: int, work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[place] = work()
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=one) for one in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_two_frames_with_one_claim_one_is_born() -> None:
    awaited()
    (claim,) = make_claims(["frame-1"], "rosa")
    requests = [claim_request(claim.token, new_key()) for _ in range(4)]
    results = _at_once(*(lambda request=request: redeem(request) for request in requests))
    refused = [result for result in results if isinstance(result, Refused)]
    assert len(refused) == 3, results
    assert FrameCertificate.objects.count() == 1


def test_one_key_is_never_two_frames() -> None:
    key = new_key()
    for name in ("frame-1", "frame-2", "frame-3"):
        make_frame(name)
    results = _at_once(
        lambda: renew("frame-1", csr(key)), lambda: renew("frame-2", csr(key)), lambda: renew("frame-3", csr(key))
    )
    assert sum(isinstance(result, Refused) for result in results) == 2, results
    assert FrameCertificate.objects.count() == 1


def test_one_frame_that_asks_twice_at_once_gets_one_certificate_and_the_broker_hears_of_all() -> None:
    key = new_key()
    for name in ("frame-1", "frame-2"):
        make_frame(name)
    results = _at_once(
        lambda: renew("frame-1", csr(key)), lambda: renew("frame-1", csr(key)), lambda: renew("frame-2", csr(new_key()))
    )
    assert results[0] == results[1], results
    assert good_certificates().count() == 2
    assert BrokerUsers.objects.get().revision == 2
