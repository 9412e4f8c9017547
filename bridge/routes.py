"""What each message means: topics to services, many messages in a few transactions.

A frame's identity is its topic, which the broker guards; a payload that says otherwise is dropped and noted on the
topic's frame. Nothing that a frame sends can stop the bridge: what cannot be read or stored is dropped, counted and
logged. Only what the database is to blame for is tried again.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar, cast

from django.db import InterfaceError, OperationalError, ProgrammingError, transaction
from django.db.transaction import TransactionManagementError
from msgspec import UNSET

from bridge import requests
from bridge.inbox import Message
from bridge.renewals import Renewals
from fleet import metrics
from fleet.services.event_times import Clocks
from fleet.services.ingest import ingest, watermarks
from fleet.services.reports import note_health, record_hellos, record_reports
from fleet.services.sessions import note_sessions
from ota.services import deployments, director
from protocol import messages, topics
from protocol.codec import decode, encode
from protocol.errors import Refused

log = logging.getLogger(__name__)

T = TypeVar("T")
Result = TypeVar("Result")


def is_databases_fault(error: Exception) -> bool:
    """Whether the database is away, busy or not migrated, so that the same work can succeed later."""
    # Django's own complaint about a missing transaction is a ProgrammingError too, but no patience helps against it.
    return isinstance(error, OperationalError | InterfaceError | ProgrammingError) and not isinstance(
        error, TransactionManagementError
    )


Outbox = tuple[str, str]
renewals = Renewals()
AnyRequest = cast(type[messages.AnyRequest], messages.AnyRequest)
"""A union is as good as a type to the decoder, only not to the type checker."""


@dataclass(slots=True)
class Work:
    """Messages read and sorted, each with the frame its topic names."""

    hellos: list[tuple[str, messages.Hello]] = field(default_factory=list)
    reports: list[tuple[str, messages.ReportedState]] = field(default_factory=list)
    batches: list[tuple[str, messages.TelemetryBatch]] = field(default_factory=list)
    requests: list[tuple[str, messages.AnyRequest]] = field(default_factory=list)
    impostors: list[tuple[str, str]] = field(default_factory=list)
    """(the topic's frame, the name its payload claimed)."""
    sessions: list[tuple[str, tuple[str, datetime]]] = field(default_factory=list)
    """(the topic's frame, (its session, when it was heard)), of hellos that were sent just now."""
    clocks: Clocks = field(default_factory=Clocks)
    events: int = 0

    def add(self, message: Message) -> None:
        """Read one message; what cannot be read is counted, logged and forgotten."""
        where = topics.parse_up(message.topic)
        if where is None:
            _drop("unknown_topic", f"nothing is expected on {message.topic[:200]!r}")
            return
        metrics.MESSAGES.labels(where.kind).inc()
        try:
            match where.kind:
                case "hello":
                    hello = decode(message.payload, messages.Hello)
                    if self._is_own(where.frame_id, hello.frame_id):
                        self.hellos.append((where.frame_id, hello))
                        if message.prompt and isinstance(hello.session, str):
                            self.sessions.append((where.frame_id, (hello.session, message.arrived)))
                case "reported":
                    report = decode(message.payload, messages.ReportedState)
                    if self._is_own(where.frame_id, report.frame_id):
                        self.reports.append((where.frame_id, report))
                case "events":
                    batch = decode(message.payload, messages.TelemetryBatch)
                    if self._is_own(where.frame_id, batch.frame_id):
                        self.batches.append((where.frame_id, batch))
                        self.clocks.hear(where.frame_id, batch, message.arrived, prompt=message.prompt)
                        self.events += len(batch.events)
                case "request":
                    request = decode(message.payload, AnyRequest)
                    if self._is_own(where.frame_id, request.frame_id):
                        self.requests.append((where.frame_id, request))
        except Refused as refused:
            _drop("malformed", f"{where.kind} of {where.frame_id}: {refused.detail}")

    def _is_own(self, frame_id: str, claimed: str) -> bool:
        if frame_id == claimed:
            return True
        _drop("wrong_identity", f"{frame_id} sent a message that says it is from {claimed}")
        self.impostors.append((frame_id, claimed))
        return False


@dataclass(frozen=True, slots=True)
class Answer:
    """One Ack, or the answer to one request, for one frame."""

    topic: str
    payload: bytes


def perform(work: Work) -> list[Answer]:
    """Store everything and say what to answer. Raises the database's error when it cannot; nothing is lost then, and
    what was stored before counts nothing twice."""
    committed: dict[Outbox, int] = {}
    for marks in _all_or_each(lambda some: ingest(some, clocks=work.clocks), work.batches):
        committed |= marks
    newest_hello = dict(work.hellos)  # the last one of each frame
    enrolled: set[str] = set()
    for ids in _all_or_each(lambda some: record_hellos(dict(some)), list(newest_hello.items())):
        enrolled |= ids
    for _ in _all_or_each(note_sessions, work.sessions):
        pass
    greeted = {(frame_id, hello.outbox_id) for frame_id, hello in newest_hello.items() if frame_id in enrolled}
    committed |= watermarks([outbox for outbox in greeted if outbox not in committed])
    for _ in _all_or_each(_record_reports, work.reports):
        pass
    for frame_id, claimed in dict(work.impostors).items():
        note_health(
            frame_id,
            "wrong_identity",
            f"This frame sent a message that says it is from {claimed}: check which certificate is in which frame.",
        )
    versions = director.desired_versions({frame_id for frame_id, _ in committed})
    behind = [(one, hello) for one, hello in newest_hello.items() if hello.desired_version < versions.get(one, 0)]
    for _ in _all_or_each(_republish, [(one, hello) for one, hello in behind if one in enrolled]):
        pass
    answers: list[Answer] = []
    for some in _all_or_each(_answer_requests, list(_newest(work.requests))):
        answers += some
    said_hello = {frame_id for frame_id, _ in greeted}
    renewing = renewals.told(said_hello, {frame_id for frame_id, _ in committed} - said_hello)
    return answers + [
        _answer(outbox, seq, versions.get(outbox[0], 0), hello=outbox in greeted, renew=outbox[0] in renewing)
        for outbox, seq in committed.items()
    ]


@transaction.atomic
def _record_reports(reports: list[tuple[str, messages.ReportedState]]) -> None:
    deployments.on_reports(record_reports(reports))


@transaction.atomic
def _republish(behind: Iterable[tuple[str, messages.Hello]]) -> None:
    for frame_id, _ in behind:
        director.republish(frame_id)


def _all_or_each(store: Callable[[list[tuple[str, T]]], Result], items: list[tuple[str, T]]) -> Iterable[Result]:
    """Store all at once; when that fails for what one of them holds, each by itself, dropping the one."""
    if not items:
        return
    try:
        yield store(items)
    except Exception as error:
        if is_databases_fault(error):
            raise
        if len(items) == 1:
            log.exception("A message of %s cannot be stored and is dropped", items[0][0])
            metrics.MESSAGES_DROPPED.labels("not_storable").inc()
            return
        for item in items:
            yield from _all_or_each(store, [item])


def _newest(requests: list[tuple[str, messages.AnyRequest]]) -> Iterable[tuple[str, messages.AnyRequest]]:
    """The last request of each kind of each frame: it waits for no answer to an earlier one."""
    return {(frame_id, type(request)): (frame_id, request) for frame_id, request in requests}.values()


def _answer_requests(asked: Iterable[tuple[str, messages.AnyRequest]]) -> list[Answer]:
    """Each in a transaction of its own: a new certificate locks the one row by which brokers are told, and a revocation
    must not wait there until a whole fleet has renewed."""
    return [
        Answer(topics.frame_topic(frame_id, "answer"), encode(requests.answer(frame_id, request)))
        for frame_id, request in asked
    ]


def _answer(outbox: Outbox, seq: int, desired_version: int, *, hello: bool, renew: bool) -> Answer:
    frame_id, outbox_id = outbox
    ack = messages.Ack(
        outbox_id=outbox_id,
        seq=seq,
        desired_version=desired_version,
        hello=hello or UNSET,
        renew=renew or UNSET,
    )
    return Answer(topics.frame_topic(frame_id, "ack"), encode(ack))


def _drop(reason: str, sentence: str) -> None:
    metrics.MESSAGES_DROPPED.labels(reason).inc()
    log.warning("Dropped a message: %s", sentence)
