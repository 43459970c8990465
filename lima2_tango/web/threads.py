"""What waits for Tango waits beside the event loop, in threads that hold up nobody: neither each other nor the end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """So many calls at once; the others wait for their turn. For one event loop."""

    def __init__(self, most: int) -> None:
        self._turn = asyncio.Semaphore(most)

    async def __call__(self, call: Callable[..., T], *arguments: object) -> T:
        """What the call returns, or raises. A call that still hangs when the process ends does not keep it."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[T] = loop.create_future()

            def tell(how: Callable[[Any], None], what: object) -> None:
                if not answer.done():  # who waits for it may have been cancelled
                    how(what)

            def work() -> None:
                outcome: tuple[Callable[[Any], None], object]
                try:
                    outcome = answer.set_result, call(*arguments)
                except Exception as error:  # noqa: BLE001 - boundary: it is raised where the answer is waited for
                    outcome = answer.set_exception, error
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(tell, *outcome)

            Thread(target=work, name="lima2-page", daemon=True).start()
            return await answer
