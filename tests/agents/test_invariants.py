"""What holds for every agent of the library, offline and online."""

import dataclasses

import agents_setup as setup
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.agents import AGENTS, Agent, AgentConfig
from flowpolicy.agents.base import REFINABLE
from flowpolicy.data.chunk import View, n_step_returns
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import Adam
from flowpolicy.refine import QGBS, BestOfN, TrustRegion
from flowpolicy.train.guards import trainables

PLACES = [(name, online) for name in sorted(AGENTS) for online in (False, True)] + [
    (name, False) for name in setup.VARIANTS
]
everywhere = pytest.mark.parametrize(("name", "online"), PLACES)
# For what compiles most: the online update does all that the offline one does, and these agents
# have every kind of net, loss and head among them.
DIVERSE = ("fmq", "mvp", "qam", "rlpd", "sfp")
mostly = pytest.mark.parametrize(
    ("name", "online"),
    [
        pytest.param(name, online, marks=[] if online and name in DIVERSE else pytest.mark.slow)
        for name, online in PLACES
    ],
)


def _same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def _types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@everywhere
def test_an_update_keeps_structure_shapes_and_dtypes(name, online):
    """Weak types too: a scan's carry, and a program that is compiled once, need all of it."""
    agent, data = setup.make(name, online), setup.batch()
    after, _ = jax.eval_shape(agent.update, jax.random.key(0), data)
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    assert _types(after) == _types(agent)
    assert type(after) is type(agent)


@everywhere
def test_all_leaves_are_arrays(name, online):
    """So that plain jax.jit, vmap and scan take an agent, and a checkpoint can hold it."""
    agent = setup.make(name, online)
    assert isinstance(agent, Agent)
    assert jax.tree.leaves(agent)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(agent))


@mostly
def test_jit_equals_no_jit(name, online):
    """The parameters after an update and its metrics, up to rounding."""
    agent, data, key = setup.make(name, online), setup.batch(), jax.random.key(3)
    compiled = setup.update(agent, key, data)
    plain = agent.update(key, data)
    for a, b in zip(jax.tree.leaves(compiled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


@everywhere
def test_the_same_key_gives_the_same_bits_and_another_does_not(name, online):
    """An update is a function of (agent, key, batch) and does draw from its key."""
    agent, data = setup.make(name, online), setup.batch()
    one = setup.update(agent, jax.random.key(3), data)
    assert _same(one, setup.update(agent, jax.random.key(3), data))
    assert not _same(one, setup.update(agent, jax.random.key(4), data))


@everywhere
def test_an_update_leaves_its_inputs_alone(name, online):
    """Agent and batch have the same bits afterwards and can be used again: nothing is donated."""
    agent, data = setup.make(name, online), setup.batch()
    before = jax.tree.map(lambda x: np.array(x), (agent, data))
    after, _ = setup.update(agent, jax.random.key(3), data)
    assert _same(before, (agent, data))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((agent, data)))
    assert not _same(agent, after)


@everywhere
def test_every_update_counts_and_trains_all_it_should(name, online):
    """The count goes up by one; every parameter of actor and critic moves, the reference does not.

    Moments of the optimiser are leaves too, and the step counters within them. Limits of gradients'
    norms are the loop's to move.
    """
    agent, data = setup.make(name, online), setup.batch()
    after = setup.train(agent, jax.random.key(3), data, 3)
    assert int(after.count - agent.count) == 3
    paths = jax.tree_util.tree_flatten_with_path(agent)[0]
    for (path, old), new in zip(paths, jax.tree.leaves(after), strict=True):
        where = jax.tree_util.keystr(path)
        frozen = "reference" in where or where.endswith(".limit")
        assert np.array_equal(old, new) == frozen, where


def _with(field):
    """Agents that have the field."""
    return [n for n in sorted(AGENTS) if field in {f.name for f in dataclasses.fields(AGENTS[n])}]


def _steps(agent):
    """The largest change of a number by one update, for each of what the agent trains."""
    after, _ = setup.update(agent, jax.random.key(3), setup.batch())
    before, after = trainables(agent), trainables(after)

    def largest(old, new):
        pairs = zip(jax.tree.leaves(old.model), jax.tree.leaves(new.model), strict=True)
        return max(float(jnp.abs(a - b).max()) for a, b in pairs)

    return {where: largest(before[where], after[where]) for where in before}


@pytest.mark.parametrize(
    ("name", "online", "field", "slow"),
    [
        *((name, False, "critic_optimiser", {"critic.online"}) for name in _with("critic_optimiser")
          if name != "decision_flow"),
        ("decision_flow", False, "critic_optimiser", {"critic.online", "inner"}),
        ("swfp", True, "block_optimiser", {"policy.blocks"}),
    ],
)  # fmt: skip
def test_an_optimiser_of_its_own_is_used(name, online, field, slow):
    """Adam's first step is its rate where a gradient is: 1e-5 here, about 1e-2 elsewhere."""
    steps = _steps(setup.make(name, online, **{field: Adam(rate=1e-5)}))
    assert slow < set(steps)
    for where, step in steps.items():
        assert step == pytest.approx(1e-5 if where in slow else 1e-2, rel=0.35), where


@everywhere
def test_metrics_are_finite_scalars_with_a_group(name, online):
    """``group/name``: the log, the report and the sinks tell metrics by the slash."""
    _, metrics = setup.update(setup.make(name, online), jax.random.key(3), setup.batch())
    assert metrics
    for label, value in metrics.items():
        assert "/" in label
        assert value.shape == ()
        assert value.dtype == jnp.float32
        assert np.isfinite(value), label


@everywhere
def test_acting_is_pure_and_in_the_box(name, online):
    """[-1, 1] for observations far from any data; a function of (agent, key, obs, memory)."""
    agent = setup.make(name, online)
    keys = jax.random.split(jax.random.key(9), 64)
    far = 30.0 * jax.random.normal(jax.random.key(8), (64, setup.OBS))

    @jax.jit
    @jax.vmap
    def call(key, obs):
        return agent.act(key, obs, agent.memory()), agent.explore(key, obs, agent.memory())

    for action, memory in call(keys, far):
        assert action.shape == (64, setup.config(name).view.chunk * setup.ACTION)
        assert 0.9 < float(jnp.abs(action).max()) <= 1.0
        assert jax.tree.structure(memory) == jax.tree.structure(agent.memory())
    assert _same(call(keys, far), call(keys, far))
    near = np.asarray(call(keys, jnp.zeros_like(far))[0][0])
    assert np.unique(near[:, 0]).size > 8


@mostly
def test_observations_may_be_trees(name, online):
    """A mapping of fields trains as its concatenation does."""
    agent, data = setup.make(name, online), setup.batch()
    fields = {"a": data.obs[:, :1], "b": data.obs[:, 1:]}
    after = {"a": data.next_obs[:, :1], "b": data.next_obs[:, 1:]}
    one, _ = setup.update(agent, jax.random.key(3), data)
    two, _ = setup.update(
        agent, jax.random.key(3), dataclasses.replace(data, obs=fields, next_obs=after)
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


@everywhere
def test_begin_online_keeps_what_was_learned(name, online):
    """Parameters, optimiser state and count go on; a second call changes nothing."""
    agent = setup.train(setup.make(name, online), jax.random.key(3), setup.batch(), 2)
    after = agent.begin_online(jax.random.key(5))
    for field in ("actor", "critic", "count", "cloning"):
        if (old := getattr(agent, field, None)) is not None:
            assert _same(old, getattr(after, field))
    assert _same(after, after.begin_online(jax.random.key(6)))


@pytest.mark.parametrize("name", setup.ALL)
def test_begin_online_shares_no_buffer(name):
    """The loop donates the agent's buffers: one that stands in two leaves would be freed twice."""
    agent = setup.make(name, online=False).begin_online(jax.random.key(0))
    where = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(agent)]
    assert len(set(where)) == len(where)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_configurations_are_written_and_read(name):
    """JSON and text, defaults and changes alike; an agent is a config with a view and an act."""
    plain = setup.plain(name)
    for it in (plain, setup.config(name, tau=0.01, act=TrustRegion(0.2, BestOfN(3)))):
        assert parts.decode(parts.encode(it)) == it
        assert parts.parse(parts.describe(it)) == it
        assert isinstance(it, AgentConfig)
        assert isinstance(it.view, View)
    assert parts.name_of(plain) == name
    assert (setup.config(name).view.horizon, setup.config(name).view.discount) == (2, 0.99)


# What is distilled brings its own.
NAMING = sorted(set(AGENTS) - {"distilled"})


@pytest.mark.parametrize("name", NAMING)
@pytest.mark.parametrize(
    ("field", "value"),
    [("chunk", 0), ("chunk", -1), ("discount", 1.0), ("discount", -0.1), ("discount", np.nan)],
)
def test_a_chunk_or_discount_that_is_none_is_refused_by_its_own_name(name, field, value):
    """When the configuration is made, before its view is asked for."""
    with pytest.raises(InvalidConfig, match=rf"^{name}\.{field} must be .*got {value}"):
        AGENTS[name](**{field: value})


def _asked(agent):
    """What the agent says when it is asked for its flow and for a value; None where it has both."""
    try:
        agent.flow()
        agent.value(jnp.zeros(setup.OBS), jnp.zeros(setup.CHUNK * setup.ACTION))
    except InvalidConfig as error:
        return str(error)
    return None


def test_agents_without_a_flow_or_a_critic_name_those_with_both():
    """And these are all that have."""
    said = {name: _asked(setup.make(name, False)) for name in AGENTS}
    assert sorted(name for name, text in said.items() if text is None) == list(REFINABLE)
    for name, text in said.items():
        if text is not None:
            assert text.startswith(f"{name} has no ")
            assert text.endswith(f"both: {', '.join(REFINABLE)}")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in DIVERSE else pytest.mark.slow)
        for name in (*REFINABLE, "qam_e", "qam_f")
    ],
)
def test_qgbs_acts_and_bootstraps_for_any_of_these(name):
    """By explicit choice, in training too: an update trains, an action is in the box."""
    search = QGBS(steps=1, beam=2, branches=2)
    agent = setup.make(name, True, act=search, bootstrap=search)
    after, metrics = setup.update(agent, jax.random.key(3), setup.batch())
    assert all(np.isfinite(value) for value in metrics.values())
    draw = jax.jit(lambda k: after.act(k, jnp.ones(setup.OBS), after.memory())[0])
    actions = np.stack([draw(k) for k in jax.random.split(jax.random.key(4), 4)])
    assert np.abs(actions).max() <= 1.0
    assert len(np.unique(actions, axis=0)) > 1


@pytest.mark.parametrize("name", _with("ends"))
def test_n_step_returns_make_an_agent_of_single_actions(name):
    """Windows of h rows, one action: nets, refiners and losses are of its size."""
    agent = setup.make(name, online=True, ends=n_step_returns)
    view = setup.config(name, ends=n_step_returns).view
    assert (view.horizon, view.chunk) == (setup.CHUNK, 1)
    data = setup.batch()
    d = setup.ACTION
    data = dataclasses.replace(data, action=data.action[:, :d], mask=data.mask[:, :d])
    after, _ = jax.eval_shape(agent.update, jax.random.key(0), data)
    assert _types(after) == _types(agent)
    shape = jax.eval_shape(
        lambda k: agent.act(k, data.obs[0], agent.memory())[0], jax.random.key(0)
    )
    assert shape.shape == (d,)


@pytest.mark.strict
@everywhere
def test_no_key_is_used_twice(name, online):
    """JAX's own check, which it does as it traces: initialisation, an update, and acting."""
    with jax.debug_key_reuse(True):
        data = setup.batch()

        def everything(key):
            key_init, key_begin, key_update, key_act = jax.random.split(key, 4)
            agent = setup.config(name).init(key_init, setup.SPEC)
            if online:
                agent = agent.begin_online(key_begin)
            agent, _ = agent.update(key_update, data)
            return agent.act(key_act, data.obs[0], agent.memory())

        jax.jit(everything).trace(jax.random.key(0))


@pytest.mark.strict
def test_the_key_check_finds_a_reuse():
    """What the test above relies on."""
    twice = jax.jit(lambda k: jax.random.normal(k) + jax.random.uniform(k))
    with jax.debug_key_reuse(True), pytest.raises(Exception, match="consumed"):
        twice.trace(jax.random.key(0))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in setup.VARIANTS else []) for n in setup.ALL],
)
def test_updates_map_over_seeds(name):
    """Stacked agents under vmap are the agents one by one."""
    one = setup.make(name, online=False)
    agents = [one, setup.train(one, jax.random.key(7), setup.batch(), 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *agents)
    keys, data = jax.random.split(jax.random.key(3)), setup.batch()
    both, _ = jax.jit(jax.vmap(lambda a, k: a.update(k, data)))(stacked, keys)
    for i in (0, 1):
        alone, _ = setup.update(agents[i], keys[i], data)
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=2e-3, atol=2e-5)
