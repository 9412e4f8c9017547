"""A line with a length: a TCP relay that holds every byte for a while, and that a test can cut or slow down."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 64 * 1024


class Relay:
    """``delay_s`` each way; ``bytes_per_s`` bounds what each connection brings from the server (None: no bound), and
    may be changed at any time."""

    def __init__(self, target: int, delay_s: float, bytes_per_s: float | None = None) -> None:
        self.target = target
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def cut(self) -> None:
        """Drop every connection."""
        self._loop.call_soon_threadsafe(self._drop)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        self._drop()
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        with suppress(asyncio.CancelledError):  # at the end of a test
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer, down=True))
        self._writers -= {writer, far_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool = False) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def deliver() -> None:
            while (held := await line.get())[1]:
                at, data = held
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                while data:
                    rate = self.bytes_per_s if down else None
                    piece = len(data) if rate is None else max(1, int(rate / 20))
                    writer.write(data[:piece])
                    await writer.drain()
                    data = data[piece:]
                    if rate is not None:
                        await asyncio.sleep(piece / rate)

        with suppress(OSError):
            delivering = asyncio.create_task(deliver())
            while data := await reader.read(PIECE):
                await line.put((time.monotonic() + self.delay_s, data))
                if delivering.done():
                    break
            await line.put((0.0, b""))
            await delivering
        writer.transport.abort()


@contextmanager
def relay(target: int, delay_s: float = 0.0, bytes_per_s: float | None = None) -> Iterator[Relay]:
    """A running one to 127.0.0.1:``target``."""
    line = Relay(target, delay_s, bytes_per_s)
    line.start()
    try:
        yield line
    finally:
        line.stop()
