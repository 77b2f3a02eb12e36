"""What a report shows of a trained policy: an episode, and what its flow map does to noise."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.agents.base import Agent
from flowpolicy.envs.base import Env
from flowpolicy.envs.make import gripper_path
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.refine import Refiner
from flowpolicy.report.material import FlowPicture, Material, Rollout
from flowpolicy.report.rollout import Act, record_rollout, trace_flow
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.policy import Policy
from flowpolicy.train.random import Stream, episode_seed, stream_key
from flowpolicy.train.task import env_to_show
from flowpolicy.types import Observation

NOISES = 96
EPISODES_TRIED = 8


def show(folder: RunFolder) -> Material:
    """Plays episodes of the first seed's policy and traces its flow at their first state.

    Where the task has no environment, or the agent no flow to draw, the material says so.
    """
    task = folder.config().task
    try:
        env = env_to_show(task)
    except MissingData as error:
        return Material(rollout_absent=str(error), flow_absent=str(error))
    try:
        rollout = _rollout(folder, env)
        try:
            return Material(rollout=rollout, flow=_flow(folder, env, rollout.seed))
        except InvalidConfig as error:
            return Material(rollout=rollout, flow_absent=str(error))
    finally:
        env.close()


def rollout_of(
    folder: RunFolder, refiner: Refiner | None = None, index: int = 0, *, best: bool = False
) -> Rollout:
    """An episode of one seed's policy, a solved one if there is one among the first tries.

    refiner: acts in the place of the agent's own
    index:   which of the run's seeds, from 0
    best:    of the best state, and not of the newest
    """
    env = env_to_show(folder.config().task)
    try:
        return _rollout(folder, env, refiner, index, best=best)
    finally:
        env.close()


def _rollout(
    folder: RunFolder,
    env: Env,
    refiner: Refiner | None = None,
    index: int = 0,
    *,
    best: bool = False,
) -> Rollout:
    seed = folder.config().seeds[index]
    starts = [episode_seed(seed, Stream.EVALUATE, i) for i in range(EPISODES_TRIED)]

    def begin(episode: int) -> Act:
        policy = Policy.load(
            folder.path, seed_index=index, refiner=refiner, seed=episode, best=best
        )
        return policy.in_box().session()

    return record_rollout(begin, env, seeds=starts, track=tracker(env))


def tracker(env: Env) -> Any:
    """Positions by name: the gripper's where there is an arm, else the first two numbers; None
    where nothing tells where they are."""
    if isinstance(env.obs_shape, dict):
        return None

    def track(obs: Observation) -> dict[str, np.ndarray]:
        path = gripper_path(env.name, np.asarray(obs)[None])
        return {"gripper": path[0]} if path is not None else {"position": np.asarray(obs)[:2]}

    drawable = gripper_path(env.name, np.zeros((1, 32))) is not None
    return track if drawable or re.match("point", env.name) else None


def _flow(folder: RunFolder, env: Env, start: int) -> FlowPicture:
    """``InvalidConfig`` where the agent has no flow, or its actions no two entries to draw."""
    policy = Policy.load(folder.path)
    obs = policy.normaliser(jax.tree.map(jnp.asarray, env.reset(start)))
    agent = policy.agent
    flow = agent.flow()
    if flow.action < 2:
        raise InvalidConfig("The picture is of two entries of an action, and this one has one.")
    noise = jax.random.normal(stream_key(0, Stream.POLICY), (NOISES, flow.action))

    @jax.jit
    def advance(r: Any, t: Any, a: Any) -> Any:
        return jax.vmap(lambda x: flow.flow(r, t, x, obs))(a)

    def move(r: float, t: float, a: np.ndarray) -> np.ndarray:
        return np.asarray(advance(jnp.float32(r), jnp.float32(t), jnp.asarray(a)))

    return trace_flow(
        move,
        lambda a: move(0.0, 1.0, a),
        lambda a: _values(agent, obs, a),
        np.asarray(noise),
        state=f"the first state of environment seed {start}",
    )


def _values(agent: Agent, obs: Observation, actions: np.ndarray) -> np.ndarray:
    try:
        value = jax.vmap(lambda a: agent.value(obs, a))
        return np.asarray(value(jnp.clip(jnp.asarray(actions), -1.0, 1.0)))
    except InvalidConfig:
        # An agent without a critic: the picture is drawn in one colour.
        return np.zeros(len(actions))
