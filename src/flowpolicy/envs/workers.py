"""Environments in processes of their own, which step while the device computes.

Actions and observations pass through shared memory, orders and answers through pipes. Processes
are spawned, not forked, and leave Ctrl-C and SIGTERM to the parent; they end when it does.
"""

import contextlib
import multiprocessing
import os
import signal
import struct
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, reduction
from multiprocessing.context import SpawnProcess
from typing import Any

import jax
import numpy as np

from flowpolicy.envs.base import Env, Step
from flowpolicy.envs.fleet import Shape, play_one
from flowpolicy.errors import InvalidConfig, WorkerFailed
from flowpolicy.types import Observation, byte_fields

_ORDER = struct.Struct("=c3xiq")
"""What to do, in which of the worker's environments, with which seed or how many actions."""
_RESET, _PLAY = b"R", b"P"


class Room:
    """Where one environment's actions and what came of them lie in shared memory, for ``most``
    steps at a time. Both sides make the same views of the same bytes.
    """

    def __init__(self, obs: Observation, action: int, most: int) -> None:
        """``obs`` is an observation, for its structure, shapes and dtypes."""
        leaves, self._structure = jax.tree.flatten(obs)
        self._parts: list[tuple[np.dtype[Any], tuple[int, ...]]] = [
            (np.dtype(np.float32), (most, action)),
            (np.dtype(np.float64), (most,)),
            (np.dtype(np.bool_), (most, 3)),
            (np.dtype(np.int64), ()),
        ]
        for leaf in leaves:
            one = np.asarray(leaf)
            self._parts.append((one.dtype, (most, *one.shape)))
        self.most = most

    @property
    def size(self) -> int:
        """Bytes, each part at a multiple of 64."""
        return sum(_rounded(dtype, shape) for dtype, shape in self._parts)

    def views(self, buffer: np.ndarray) -> "Views":
        """Arrays over ``buffer``, of ``size`` bytes."""
        found, at = [], 0
        for dtype, shape in self._parts:
            count = int(np.prod(shape))
            found.append(np.frombuffer(buffer, dtype, count, at).reshape(shape))
            at += _rounded(dtype, shape)
        actions, reward, flags, count, *obs = found
        return Views(actions, reward, flags, count, obs, self._structure)


def _rounded(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64


class Views:
    """One environment's shared arrays: actions in, steps out; ``count`` of them are real."""

    def __init__(
        self,
        actions: np.ndarray,
        reward: np.ndarray,
        flags: np.ndarray,
        count: np.ndarray,
        obs: list[np.ndarray],
        structure: Any,
    ) -> None:
        self.actions, self._reward, self._flags, self._count = actions, reward, flags, count
        self._obs, self._structure = obs, structure

    def put_obs(self, i: int, obs: Observation) -> None:
        """The i-th observation; raises ``ValueError`` where it has another shape."""
        leaves, structure = jax.tree.flatten(obs)
        if structure != self._structure:
            raise ValueError(f"an observation is {structure}, must be {self._structure}")
        for place, leaf in zip(self._obs, leaves, strict=True):
            if np.shape(leaf) != place.shape[1:]:
                raise ValueError(f"an observation is {np.shape(leaf)}, must be {place.shape[1:]}")
            place[i] = leaf

    def obs(self, i: int) -> Observation:
        """A copy of the i-th observation."""
        return jax.tree.unflatten(self._structure, [leaf[i].copy() for leaf in self._obs])

    def put(self, steps: Sequence[Step]) -> None:
        """What came of the actions."""
        for i, step in enumerate(steps):
            self.put_obs(i, step.obs)
            self._reward[i] = step.reward
            self._flags[i] = step.terminated, step.truncated, step.success
        self._count[...] = len(steps)

    def steps(self) -> list[Step]:
        """What the other side has put there."""
        flags = self._flags[: int(self._count)].tolist()
        return [Step(self.obs(i), float(self._reward[i]), *three) for i, three in enumerate(flags)]


def serve(
    make: Callable[[], Env], room: Room, buffers: list[Any], orders: connection.Connection
) -> None:
    """A worker's life: makes what it is told to, until the parent hangs up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # the accelerator is the parent's
    views = [room.views(np.frombuffer(buffer, np.uint8)) for buffer in buffers]
    envs: dict[int, Env] = {}
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            order, told = orders.recv_bytes(), b""
            try:
                for what, slot, number in _ORDER.iter_unpack(order):
                    if slot not in envs:
                        envs[slot] = make()
                    if what == _RESET:
                        views[slot].put_obs(0, envs[slot].reset(number))
                    else:
                        views[slot].put(play_one(envs[slot], views[slot].actions[:number]))
            except Exception:
                told = traceback.format_exc().encode()
            orders.send_bytes(told)
    for env in envs.values():
        env.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Processes that are started meanwhile never see SIGINT and SIGTERM.

    They inherit that both are held back, until ``serve`` ignores them: a Ctrl-C in the seconds in
    which they import would end them. This process gets what came afterwards.
    """
    if os.name != "posix":  # masks are POSIX's
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_sendable(make: Callable[[], Env]) -> None:
    """``InvalidConfig`` where ``make`` cannot be sent to another process."""
    try:
        reduction.ForkingPickler.dumps(make)
    except Exception as error:  # a task of anybody's, and whatever its own pickling raises
        raise InvalidConfig(
            f"workers need a task that can be sent to another process: {error}; define it at the "
            "top of a module, or train with workers=0"
        ) from None


class Worker:
    """One process, seen from the parent, with the environments it holds."""

    def __init__(self, make: Callable[[], Env], room: Room, slots: int) -> None:
        """Not started yet."""
        self._context = multiprocessing.get_context("spawn")
        self._make, self._room = make, room
        self._buffers = [self._context.RawArray("B", room.size) for _ in range(slots)]
        self.views = [room.views(np.frombuffer(buffer, np.uint8)) for buffer in self._buffers]
        self._process: SpawnProcess | None = None
        self.pipe: Any = None

    def start(self) -> Any:
        """Starts the process, in the place of one that died; returns the pipe to it."""
        self.pipe, other = self._context.Pipe()
        arguments = (self._make, self._room, self._buffers, other)
        self._process = self._context.Process(target=serve, args=arguments, daemon=True)
        try:
            with _signals_held():
                self._process.start()
        finally:
            other.close()
        return self.pipe

    def order(self, orders: Sequence[tuple[bytes, int, int]]) -> bool:
        """Sends what to do; whether the process was there to be told."""
        pipe = self.pipe or self.start()
        try:
            pipe.send_bytes(b"".join(_ORDER.pack(*one) for one in orders))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answer(self) -> bool:
        """Waits until it is done; False where the process died on the way.

        Raises ``WorkerFailed`` with what an environment raised there.
        """
        try:
            told = self.pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            return False
        if told:
            raise WorkerFailed(f"an environment failed in its worker:\n{told.decode()}")
        return True

    def died(self) -> str:
        """Buries the process; how it ended."""
        code = None
        if self._process is not None:
            self._process.join()
            code = self._process.exitcode
        self.hang_up()
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def hang_up(self) -> None:
        """Closes the pipe, at which the process ends."""
        if self.pipe is not None:
            self.pipe.close()
        self.pipe = None

    def wait(self, seconds: float) -> None:
        """Waits for the end of a process that was hung up on, and makes it."""
        if self._process is not None:
            self._process.join(seconds)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = None


class Workers:
    """A fleet whose environments are shared out to processes; see ``Fleet``.

    A process that dies is started again once, without the episodes it was playing; the second time
    ``trouble`` says so, and nothing is played any more.
    """

    repeats = True

    def __init__(
        self,
        make: Callable[[], Env],
        size: int,
        *,
        workers: int,
        most: int,
        say: Callable[[str], None],
    ) -> None:
        """``make``, which must be picklable, gives an environment; one is made here, to look at.

        size: environments; most: actions handed over at a time; ``say`` is told of a death
        """
        if workers < 1 or size < 1 or most < 1:
            raise InvalidConfig(
                f"workers, size and most must be at least 1, got {workers}, {size} and {most}"
            )
        _check_sendable(make)
        env = make()
        try:
            obs = env.reset(0)
            frames = byte_fields(obs)
            self._shape = Shape(env.name, env.obs_shape, env.action_size, frames)
        finally:
            env.close()
        room = Room(obs, self._shape.action, most)
        self._most, self._say, self.trouble = most, say, ""
        workers = min(workers, size)
        self._workers = [Worker(make, room, len(range(k, size, workers))) for k in range(workers)]
        self._deaths = 0
        self._size = size
        self._gone: set[int] = set()  # whose episode died with its process

    def shape(self) -> Shape:
        """What they have in common."""
        return self._shape

    def _of(self, i: int) -> tuple[int, int]:
        """Which worker holds the i-th environment, and as its how-manieth."""
        return i % len(self._workers), i // len(self._workers)

    def _views(self, i: int) -> Views:
        worker, slot = self._of(i)
        return self._workers[worker].views[slot]

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Observation]:
        """See ``Fleet``; what dies meanwhile is started again and reset."""
        if self._all({i: (_RESET, seed) for i, seed in seeds.items()}) and not self.trouble:
            return self.reset(seeds)
        if self.trouble:
            raise WorkerFailed(self.trouble)
        self._gone -= set(seeds)
        return {i: self._views(i).obs(0) for i in seeds}

    def play(self, actions: Mapping[int, np.ndarray]) -> dict[int, list[Step] | None]:
        """See ``Fleet``; more than ``most`` actions go over in several pieces."""
        steps: dict[int, list[Step] | None] = {i: None if i in self._gone else [] for i in actions}
        open_ones = [i for i, some in actions.items() if len(some) and i not in self._gone]
        at = 0
        while open_ones:
            pieces = {i: actions[i][at : at + self._most] for i in open_ones}
            for i, piece in pieces.items():
                self._views(i).actions[: len(piece)] = piece
            lost = self._all({i: (_PLAY, len(piece)) for i, piece in pieces.items()})
            at += self._most
            for i in open_ones:
                so_far = steps[i]
                steps[i] = None if i in lost or so_far is None else so_far + self._views(i).steps()
            open_ones = [i for i in open_ones if _goes_on(steps[i], len(actions[i]), at)]
        return {i: None if i in self._gone else made for i, made in steps.items()}

    def _all(self, orders: Mapping[int, tuple[bytes, int]]) -> set[int]:
        """Has everything done, all workers at once; returns whose worker died meanwhile."""
        by_worker: dict[int, list[tuple[int, tuple[bytes, int, int]]]] = {}
        for i, (what, number) in orders.items():
            worker, slot = self._of(i)
            by_worker.setdefault(worker, []).append((i, (what, slot, number)))
        there = {
            worker: self._workers[worker].order([order for _, order in own])
            for worker, own in by_worker.items()
        }
        lost: set[int] = set()
        failed: WorkerFailed | None = None
        for worker, own in by_worker.items():
            try:
                if not there[worker] or not self._workers[worker].answer():
                    self._died(worker)
                    lost |= {i for i, _ in own}
            except WorkerFailed as error:
                failed = error  # the others' answers must not be taken for those to later orders
        if failed is not None:
            raise failed
        return lost

    def _died(self, worker: int) -> None:
        how = self._workers[worker].died()
        self._deaths += 1
        self._gone |= {i for i in range(self._size) if self._of(i)[0] == worker}
        if self._deaths > 1:
            self.trouble = f"a worker process died for the second time ({how})"
            return
        self._say(f"a worker process died ({how}): it is started again, its episodes are dropped")

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.wait(5.0)


def _goes_on(steps: list[Step] | None, wanted: int, at: int) -> bool:
    if steps is None or at >= wanted or len(steps) < at:
        return False
    return not (steps[-1].terminated or steps[-1].truncated)
