"""The inbox: bounded, nothing twice, nothing of a connection that is gone."""

import threading

from bridge.inbox import OVERHEAD, Inbox


def test_messages_come_out_in_order_and_are_open_until_done() -> None:
    inbox = Inbox()
    inbox.connected()
    for mid in (1, 2):
        assert inbox.put("t", b"%d" % mid, mid)
    first = inbox.take(0)
    assert first is not None
    assert first.payload == b"1"
    assert not inbox.put("t", b"1", 1), "the broker sends it again while it is worked on"
    assert inbox.done(first)
    assert inbox.put("t", b"new", 1), "the packet id is free again"


def test_an_empty_inbox_is_waited_for_and_then_left() -> None:
    inbox = Inbox()
    assert inbox.take(0.01) is None
    threading.Timer(0.05, inbox.put, ("t", b"x", 1)).start()
    late = inbox.take(5)
    assert late is not None


def test_a_new_connection_drops_what_came_on_the_old_one() -> None:
    inbox = Inbox()
    inbox.connected()
    inbox.put("t", b"a", 1)
    inbox.put("t", b"b", 2)
    taken = inbox.take(0)
    assert taken is not None
    inbox.connected()
    assert inbox.take(0) is None
    assert not inbox.is_current(taken)
    assert not inbox.done(taken), "its packet id may mean another message now"
    assert inbox.put("t", b"a", 1)


def test_a_full_inbox_holds_the_reader_back_until_there_is_room() -> None:
    inbox = Inbox(max_bytes=2 * (OVERHEAD + 10))
    for mid in (1, 2):
        inbox.put("t", b"0123456789", mid)
    reader = threading.Thread(target=inbox.put, args=("t", b"third", 3))
    reader.start()
    reader.join(0.1)
    assert reader.is_alive()
    inbox.take(0)
    reader.join(5)
    assert not reader.is_alive()
    inbox.take(0)
    third = inbox.take(0)
    assert third is not None
    assert third.mid == 3


def test_a_closed_inbox_gives_out_what_it_has_and_takes_nothing_in() -> None:
    inbox = Inbox(max_bytes=1)
    inbox.put("t", b"x", 1)
    reader = threading.Thread(target=inbox.put, args=("t", b"y", 2))
    reader.start()
    inbox.close()
    reader.join(5)
    assert not reader.is_alive()
    assert inbox.take(0) is not None
    assert inbox.take(0) is None
