"""The JAX back end of ``Policy``: an agent compiled into one call an observation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy import parts
from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.deploy.files import CONFIG
from flowpolicy.deploy.package import Package
from flowpolicy.errors import CorruptFile, FlowPolicyError, InvalidConfig
from flowpolicy.nets.product import exactly
from flowpolicy.refine import Refiner
from flowpolicy.train.evaluate import own, refined
from flowpolicy.train.folder import RunFolder, Trained, blank
from flowpolicy.train.given import check_refiner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.random import Stream, stream_key
from flowpolicy.types import Key, Observation, Spec


class JaxActor:
    """One seed's agent and normaliser, of which only the leaves that acting reads are passed on."""

    def __init__(
        self,
        agent: Agent,
        normaliser: Normaliser,
        spec: Spec,
        horizon: int,
        *,
        refiner: Refiner | None = None,
        seed: int = 0,
    ) -> None:
        """``refiner`` acts in the place of the agent's own; ``seed`` decides all noise.

        Leaves of ``agent`` that acting does not read may be shapes alone.
        """
        if refiner is not None:
            check_refiner(refiner)
        self.obs_shape, self.action_size, self.horizon = spec.obs, spec.action, horizon
        self.agent, self.normaliser = agent, normaliser
        self._key, self._memory = stream_key(seed, Stream.POLICY), agent.memory()
        self.call = _acting(own if refiner is None else refined(refiner))
        state = {"agent": agent, "normaliser": normaliser}
        # A flat list of what is read: every other leaf would lengthen every call's dispatch.
        self.weights, self.short = _only_what_is_read(self.call, state, *self.inputs())
        self._call = jax.jit(self.short)

    @classmethod
    def of_run(
        cls, folder: Path, seed_index: int, refiner: Refiner | None, seed: int, *, best: bool
    ) -> "JaxActor":
        """The policy of a run's newest checkpoint, or of its best one."""
        run = RunFolder(folder)
        return cls.of_trained(run, run.load(best=best)[0], seed_index, refiner, seed)

    @classmethod
    def of_trained(
        cls, run: RunFolder, trained: Trained, seed_index: int, refiner: Refiner | None, seed: int
    ) -> "JaxActor":
        """The policy of what was loaded of ``run``."""
        count = len(run.config().seeds)
        if not 0 <= seed_index < count:
            raise InvalidConfig(f"seed_index must be in 0 .. {count - 1}, got {seed_index}")
        agent = jax.tree.map(lambda x: x[seed_index], trained.agents)
        chunk = run.config().agent.view.chunk
        return cls(agent, trained.normaliser, run.spec(), chunk, refiner=refiner, seed=seed)

    @classmethod
    def of_package(cls, package: Package, refiner: Refiner | None, seed: int) -> "JaxActor":
        """The policy of a package, with its own refiner where none is given.

        ``CorruptFile`` where tensors and configuration do not belong together; ``InvalidConfig``
        for a refiner that reads what was not packaged.
        """
        agent, spec, packaged = _told(package)
        shapes = _shapes(package, agent, spec)
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes.agents)
        normaliser = shapes.normaliser if package.config["normaliser"] else Normaliser(None, None)
        state = _filled({"agent": one, "normaliser": normaliser}, package)
        return cls(
            state["agent"],
            state["normaliser"],
            spec,
            package.horizon,
            refiner=packaged if refiner is None else refiner,
            seed=seed,
        )

    def inside(self) -> tuple[Agent, Normaliser]:
        """Agent and normaliser; leaves that acting does not read may be shapes alone."""
        return self.agent, self.normaliser

    def memory(self) -> Any:
        """The memory before the first observation of an episode."""
        return self._memory

    def inputs(self) -> tuple[Any, ...]:
        """Values like those of a call: key, number, observation, memory."""
        blank = jax.tree.map(lambda s: np.zeros(s, np.float32), self.obs_shape, is_leaf=_is_shape)
        return self._key, np.int32(0), blank, self._memory

    def __call__(self, number: int, obs: Any, memory: Any) -> tuple[np.ndarray, Any]:
        """The flat chunk of call ``number`` for one checked observation."""
        leaves = list(self.weights.values())
        chunk, memory = self._call(leaves, self._key, np.int32(number), obs, memory)
        return np.asarray(chunk), memory


def _acting(choose: Callable[[Agent], Any]) -> Callable[..., Any]:
    @exactly
    def call(state: Any, key: Key, number: Any, obs: Observation, memory: Any) -> Any:
        seen = state["normaliser"](obs)
        return choose(state["agent"])(jax.random.fold_in(key, number), seen, memory)

    return call


def names(state: Any) -> list[str]:
    """The leaves of a pytree by name, as tensors are called in a package."""
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def _told(package: Package) -> tuple[AgentConfig, Spec, Refiner | None]:
    """Agent, problem and refiner, which agree with what else the package says."""
    file = package.folder / CONFIG
    agent, spec, refiner = (
        parts.decode(package.config[name]) for name in ("agent", "spec", "refiner")
    )
    if not isinstance(agent, AgentConfig):
        raise CorruptFile(f"{file}: agent must be an agent's configuration, got {repr(agent)[:80]}")
    if not isinstance(spec, Spec) or spec.obs != package.obs_shape:
        raise CorruptFile(f"{file} tells two shapes of observations")
    if agent.view.chunk != package.horizon:
        raise CorruptFile(
            f"{file}: chunk must be the agent's, {agent.view.chunk}, got {package.horizon}"
        )
    if refiner is not None:
        try:
            check_refiner(refiner)
        except InvalidConfig as error:
            raise CorruptFile(f"{file}: {error}") from None
    return agent, spec, refiner


def _shapes(package: Package, agent: AgentConfig, spec: Spec) -> Trained:
    """The state that the agent would have: shapes alone."""
    try:
        return jax.eval_shape(lambda: blank(agent, spec, 1, bool(package.config["online"])))
    except FlowPolicyError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        # Fields of type Any, such as nets, reach the agent as they are.
        raise CorruptFile(f"{package.folder / CONFIG}: agent: {error}") from error


def _filled(skeleton: Any, package: Package) -> Any:
    """``skeleton`` with the package's tensors in the place of the shapes they fit."""
    leaves, structure = jax.tree.flatten(skeleton)
    known = names(skeleton)
    unknown = [
        n for n in package.tensors if n not in known and n.split(".")[0] in ("agent", "normaliser")
    ]
    if unknown:
        raise CorruptFile(f"{package.folder}: this agent has no leaf {unknown[0][:80]!r}")
    for i, name in enumerate(known):
        if name in package.tensors:
            value, like = package.tensors[name], leaves[i]
            if (value.shape, value.dtype) != (like.shape, like.dtype):
                raise CorruptFile(
                    f"{package.folder}: {name} is {value.dtype}{list(value.shape)}, must be "
                    f"{like.dtype}{list(like.shape)}"
                )
            leaves[i] = jax.numpy.asarray(value)
    return jax.tree.unflatten(structure, leaves)


def _only_what_is_read(
    call: Callable[..., Any], state: Any, *inputs: Any
) -> tuple[dict[str, Any], Callable[..., Any]]:
    """The leaves of ``state`` that ``call(state, *inputs)`` reads, by name, and ``call`` as a
    function of their list and of the inputs. Optimisers and target networks are not among them.
    """
    leaves, structure = jax.tree.flatten(state)
    labels = names(state)
    if jax.config.values["jax_disable_jit"]:  # debugging: nothing is traced
        every = dict(zip(labels, leaves, strict=True))
        return every, lambda leaves, *inputs: call(jax.tree.unflatten(structure, leaves), *inputs)
    program = jax.make_jaxpr(call)(state, *inputs).jaxpr
    read = {id(v) for equation in program.eqns for v in equation.invars}
    read |= {id(v) for v in program.outvars}
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    places = [i for i in range(len(leaves)) if id(program.invars[i]) in read]
    for i in places:
        if isinstance(leaves[i], jax.ShapeDtypeStruct):
            raise InvalidConfig(
                f"this refiner reads {labels[i]}, which is not in the package; package the run "
                "again with this refiner"
            )

    def short(used: list[Any], *inputs: Any) -> Any:
        every: list[Any] = list(shapes)
        for i, leaf in zip(places, used, strict=True):
            every[i] = leaf
        return call(jax.tree.unflatten(structure, every), *inputs)

    return {labels[i]: leaves[i] for i in places}, short


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple)
