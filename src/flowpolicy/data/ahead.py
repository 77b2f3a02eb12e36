"""Computing what will be asked for next in a thread, while what was asked for is used."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Ahead(Generic[Request, Reply]):
    """A function whose next value is computed meanwhile. Which values come out is the function's
    alone: a request that was not foreseen is computed when it comes.
    """

    def __init__(
        self,
        function: Callable[[Request], Reply],
        following: Callable[[Request], Request | None],
    ) -> None:
        """``following`` guesses the request after one; with None nothing is computed ahead.

        ``function`` runs in another thread, never twice at once.
        """
        self._function, self._following = function, following
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flowpolicy-ahead")
        self._next: tuple[Request, Future[Reply]] | None = None

    def __call__(self, request: Request) -> Reply:
        """The value for ``request``; what the function raises for it is raised here."""
        foreseen, self._next = self._next, None
        if foreseen is not None and foreseen[0] == request:
            reply = foreseen[1].result()
        else:
            if foreseen is not None:
                foreseen[1].cancel()
            reply = self._pool.submit(self._function, request).result()
        guess = self._following(request)
        if guess is not None:
            self._next = guess, self._pool.submit(self._function, guess)
        return reply

    def close(self) -> None:
        """Waits for the thread, whose last value nobody wants."""
        self._pool.shutdown(cancel_futures=True)
