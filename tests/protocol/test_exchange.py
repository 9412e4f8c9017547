"""A sequence survives time-outs and lost connections while somebody else owns the connection."""

from collections.abc import Callable

from protocol.exchange import Done, Exchange, Subscribe, Unsubscribe
from protocol.sequences import Pause, Perform, Program, Sequence, Want


def two_wants() -> Sequence[tuple[bytes | None, bytes | None]]:
    first = yield Want("a", 10, 5.0)
    yield Pause(2.0)
    second = yield Want("b", 10, 5.0)
    return first, second


def test_wants_become_subscriptions_and_pauses_deadlines() -> None:
    exchange = Exchange(two_wants())
    assert exchange.start(0.0, connected=True) == [Subscribe("a")]
    assert exchange.deadline == 5.0
    assert exchange.received("a", b"1", 1.0) == [Unsubscribe("a")]
    assert exchange.deadline == 3.0
    assert exchange.tick(2.9) == []
    assert exchange.tick(3.0) == [Subscribe("b")]
    assert exchange.received("b", b"2", 3.5) == [Unsubscribe("b")]
    assert exchange.done is not None
    assert exchange.done.value == (b"1", b"2")
    assert exchange.deadline is None


def test_silence_ends_a_want_with_none() -> None:
    exchange = Exchange(two_wants())
    exchange.start(0.0, connected=True)
    assert exchange.tick(5.0) == [Unsubscribe("a")]
    exchange.tick(7.0)
    exchange.received("b", b"2", 7.1)
    assert exchange.done is not None
    assert exchange.done.value == (None, b"2")


def test_foreign_late_empty_and_oversized_messages_are_ignored() -> None:
    exchange = Exchange(two_wants())
    exchange.start(0.0, connected=True)
    assert exchange.received("b", b"1", 1.0) == []
    assert exchange.received("a", b"", 1.0) == []
    assert exchange.received("a", b"x" * 11, 1.0) == []
    assert exchange.received("a", b"x" * 10, 1.0) == [Unsubscribe("a")]
    assert exchange.received("a", b"again", 1.0) == []


def test_patience_stands_still_while_the_connection_is_gone() -> None:
    exchange = Exchange(two_wants())
    exchange.start(0.0, connected=True)
    exchange.disconnected()
    assert exchange.deadline is None
    assert exchange.tick(100.0) == []
    assert exchange.connected(100.0) == [Subscribe("a")]
    assert exchange.deadline == 105.0


def test_a_pause_goes_on_without_a_connection_and_the_next_want_waits_for_it() -> None:
    exchange = Exchange(two_wants())
    exchange.start(0.0, connected=True)
    exchange.received("a", b"1", 0.0)
    exchange.disconnected()
    assert exchange.tick(2.0) == []
    assert exchange.deadline is None
    assert exchange.connected(50.0) == [Subscribe("b")]


def test_an_error_in_the_sequence_is_its_result() -> None:
    def failing() -> Sequence[None]:
        yield Want("a", 10, 1.0)
        raise ValueError("no")

    exchange = Exchange(failing())
    exchange.start(0.0, connected=True)
    exchange.received("a", b"1", 0.0)
    assert exchange.done is not None
    assert isinstance(exchange.done.error, ValueError)


def test_cancelling_unsubscribes_and_closes_the_sequence() -> None:
    closed: list[bool] = []

    def guarded() -> Sequence[None]:
        try:
            yield Want("a", 10, 1.0)
        finally:
            closed.append(True)

    exchange = Exchange(guarded())
    exchange.start(0.0, connected=True)
    assert exchange.cancel() == [Unsubscribe("a")]
    assert closed == [True]
    assert exchange.deadline is None


def with_work(call: Callable[[], object]) -> Program[object]:
    try:
        result = yield Perform(call)
    except ValueError as error:
        result = str(error)
    yield Pause(1.0)
    return result


def test_work_goes_out_once_and_its_result_comes_back_without_a_connection() -> None:
    exchange = Exchange(with_work(lambda: 42))
    (work,) = exchange.start(0.0, connected=False)
    assert isinstance(work, Perform)
    assert exchange.deadline is None
    exchange.disconnected()
    assert exchange.connected(1.0) == []
    exchange.performed(work, Done(value=work.work()), 2.0)
    exchange.tick(3.0)
    assert exchange.done == Done(value=42)


def test_what_the_work_raised_is_raised_in_the_program() -> None:
    exchange = Exchange(with_work(lambda: 42))
    (work,) = exchange.start(0.0, connected=True)
    assert isinstance(work, Perform)
    exchange.performed(work, Done(error=ValueError("no luck")), 1.0)
    exchange.tick(2.0)
    assert exchange.done == Done(value="no luck")


def test_the_result_of_other_or_cancelled_work_is_ignored() -> None:
    exchange = Exchange(with_work(lambda: 42))
    (work,) = exchange.start(0.0, connected=True)
    assert isinstance(work, Perform)
    assert exchange.performed(Perform(work.work), Done(value=1), 1.0) == []
    assert exchange.deadline is None
    exchange.cancel()
    assert exchange.performed(work, Done(value=1), 1.0) == []
    assert exchange.done is None
