"""The numpy back end of ``Policy``: a package's program, and the noise that JAX would draw."""

from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from flowpolicy.deploy import threefry
from flowpolicy.deploy.package import Package
from flowpolicy.deploy.program import Program
from flowpolicy.deploy.values import Kind
from flowpolicy.errors import CorruptFile, InvalidConfig

ATTEMPT, STREAM = 0, 5
"""What is folded into a policy's seed; the numbers of ``train.random``."""


class NumpyActor:
    """Observation and memory in, chunk and memory out, by numpy alone.

    On one thread of BLAS: threads that share a small product wait for one another, and beside a
    busy core each product then takes a slice of the scheduler's time (4 ms) and not microseconds.
    """

    def __init__(self, package: Package, seed: int) -> None:
        """``CorruptFile`` where the program is not sound or not that of an actor."""
        if package.program is None:
            raise InvalidConfig(
                f"{package.folder} was packaged without a program for numpy; load it with "
                "backend='jax', or package the run again"
            )
        self.obs_shape, self.action_size = package.obs_shape, package.action_size
        self.horizon = package.horizon
        try:
            self._program = Program(package.program, package.tensors)
        except CorruptFile as error:
            raise CorruptFile(f"{package.folder}: program.json: {error}") from None
        self._memory = _memory(package.tensors)
        self._check(package)
        self._threads = ThreadpoolController()
        key = threefry.fold_in(threefry.fold_in(threefry.seed_key(seed), ATTEMPT), STREAM)
        self._key = np.array([int(key) >> 32, int(key) & (2**32 - 1)], np.uint32)

    def _check(self, package: Package) -> None:
        memory = {f"memory/{i}": _kind(x) for i, x in enumerate(self._memory)}
        first = {"key": Kind("uint32", (2,)), "call": Kind("int32", ())}
        chunk = Kind("float32", (self.horizon * self.action_size,))
        takes, gives = first | package.inputs() | memory, {"chunk": chunk} | memory
        for what, found, wanted in (
            ("takes other inputs", self._program.inputs(), takes),
            ("gives other outputs", self._program.outputs(), gives),
        ):
            if list(found.items()) != list(wanted.items()):
                raise CorruptFile(f"{package.folder}: program.json {what} than config.json")

    def inside(self) -> tuple[Any, Any]:
        """There is a program alone."""
        raise InvalidConfig(
            "backend='numpy' has neither agent nor normaliser beside its program; load with "
            "backend='jax'"
        )

    def memory(self) -> tuple[np.ndarray, ...]:
        """The memory before the first observation of an episode."""
        return self._memory

    def __call__(self, number: int, obs: Any, memory: Any) -> tuple[np.ndarray, Any]:
        """The flat chunk of call ``number`` for one checked observation."""
        seen = [obs[k] for k in sorted(obs)] if isinstance(obs, dict) else [obs]
        with self._threads.limit(limits=1, user_api="blas"):
            chunk, *memory = self._program(self._key, np.int32(number), *seen, *memory)
        return chunk, tuple(memory)


def _memory(tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    count = sum(name.startswith("memory.") for name in tensors)
    if any(f"memory.{i}" not in tensors for i in range(count)):
        raise CorruptFile("model.safetensors: the memory's leaves are not numbered from 0")
    return tuple(tensors[f"memory.{i}"] for i in range(count))


def _kind(array: np.ndarray) -> Kind:
    return Kind(str(array.dtype), array.shape)
