"""The thread that publishes what ``ota.publication`` has pending: tables are the outbox, a PUBACK is the receipt."""

import logging
import threading
import time
from collections.abc import Callable

import paho.mqtt.client as mqtt
from django.db import Error, connection

from bridge.link import WINDOW, BridgeError, Link
from ota import publication
from ota.models import RetainedObject
from protocol import topics

log = logging.getLogger(__name__)

POLL_S = 0.25
HEAD_PATIENCE_S = (1.0, 2.0, 3.0)
"""A broker that has just started may leave its first subscribers without the retained message: ask more than once."""
PUBACK_PATIENCE_S = 60.0
MAX_BACKOFF_S = 5.0


class Publisher:
    """``run`` until ``stop`` is set. ``fatal`` is called with a sentence when the broker confirms nothing any more."""

    def __init__(self, link: Link, stop: threading.Event, fatal: Callable[[str], None]) -> None:
        self._link = link
        self._stop = stop
        self._fatal = fatal
        self._checked = 0

    def run(self) -> None:
        """The thread's body."""
        backoff = POLL_S
        while not self._stop.is_set():
            if not self._link.online.wait(POLL_S):
                continue
            try:
                self._refill_if_lost()
                self._stop.wait(0 if self._publish_some() else POLL_S)
                backoff = POLL_S
            except BridgeError as error:
                self._fatal(str(error))
                return
            except (Error, OSError) as error:
                log.warning("Publishing has to wait (%s)", str(error).strip().partition("\n")[0])
                connection.close()
                self._stop.wait(backoff)
                backoff = min(MAX_BACKOFF_S, backoff * 2)

    def _publish_some(self) -> bool:
        """One window of messages, confirmed and marked. False when there was nothing to publish."""
        due = publication.pending(WINDOW)
        sent = [(one.token, self._link.publish(one.topic, one.payload)) for one in due]
        waiting = sent
        since = time.monotonic()
        while waiting and not self._stop.is_set():
            waiting[0][1].wait_for_publish(POLL_S)
            confirmed: list[str] = []
            # What is not confirmed stays with paho, which sends it again after a reconnect: never ask for it twice.
            unconfirmed: list[tuple[str, mqtt.MQTTMessageInfo]] = []
            for token, info in waiting:
                if info.is_published():
                    confirmed.append(token)
                else:
                    unconfirmed.append((token, info))
            waiting = unconfirmed
            if confirmed:
                publication.mark_published(confirmed)
                since = time.monotonic()
            if not self._link.online.is_set():
                since = time.monotonic()
            elif time.monotonic() - since > PUBACK_PATIENCE_S:
                raise BridgeError(
                    f"The broker has confirmed nothing for {PUBACK_PATIENCE_S:.0f} s: look into its log and its disk."
                )
        return bool(due)

    def _refill_if_lost(self) -> None:
        """After each connect: does the broker still have what was published? If not, everything is published again."""
        connection_number = self._link.connections
        if self._checked == connection_number:
            return
        published_before = RetainedObject.objects.filter(published=True).exists()
        if published_before and not self._head_is_there():
            log.warning("The broker does not have the newest repository head: publishing everything again")
            publication.forget_published()
        if self._link.online.is_set():
            self._checked = connection_number

    def _head_is_there(self) -> bool:
        """Whether the broker keeps the head that was published last. True also when there is no time to find out."""
        for patience in HEAD_PATIENCE_S:
            held = self._link.read_head(patience)
            if held is not None:
                head = RetainedObject.objects.filter(pk=topics.REPO_HEAD).first()
                # While a newer head waits for its turn, the broker rightly keeps an older one.
                is_there = head is None or not head.published or bytes(head.payload or b"") == held
                log.info("The broker keeps %s repository head", "the newest" if is_there else "another")
                return is_there
            if self._stop.is_set() or not self._link.online.is_set():
                return True
        return False
