"""The adapter inside an installed verl: its estimator registry, data loader, buffers and client."""

import asyncio
import importlib
import inspect
import json
from types import SimpleNamespace

import pytest
from trainer_cases import curriculum
from verl_contract import BALANCER, CALLABLES, SOURCES, VERSION
from verl_fakes import Server

from sojourn.errors import UserError
from sojourn.trainers import verl as ours

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch", reason="verl is not installed")
pytest.importorskip("verl", reason="verl is not installed")
OmegaConf = pytest.importorskip("omegaconf").OmegaConf
tensordict = pytest.importorskip("tensordict")
pytestmark = pytest.mark.filterwarnings("ignore")


def find(module, name):
    """Return an attribute of a module, methods by `Class.method`."""
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return getattr(found, "__ray_metadata__", SimpleNamespace(modified_class=found)).modified_class


@pytest.mark.parametrize("row", CALLABLES, ids=lambda row: row[1])
def test_the_contract_is_what_is_installed(row):
    found = inspect.signature(inspect.unwrap(find(*row))).parameters
    assert tuple(found)[: len(CALLABLES[row])] == CALLABLES[row]


def test_the_balancers_protocol_is_what_is_installed():
    from verl.workers.rollout.router import RequestLoadBalancer

    for name, parameters in BALANCER.items():
        found = inspect.signature(getattr(RequestLoadBalancer, name)).parameters
        assert tuple(found) == parameters, name


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: row[1])
def test_hooks_still_have_their_effect(row):
    assert SOURCES[row] in inspect.getsource(importlib.import_module(row[0]))


def test_the_version_is_the_recorded_one():
    verl = importlib.import_module("verl")
    assert verl.__version__.startswith(VERSION)


def proto(rewards, uids, counted=None, tokens=3):
    """Return a batch as verl's trainer has it before advantages are computed."""
    from verl import DataProto

    scores = torch.zeros(len(rewards), tokens)
    scores[:, -1] = torch.tensor(rewards)
    mask = torch.ones(len(rewards), tokens, dtype=torch.int64)
    for at, one in enumerate(counted or []):
        mask[at] = int(one)
    tensors = tensordict.TensorDict(
        {"token_level_rewards": scores, "response_mask": mask}, batch_size=len(rewards)
    )
    return DataProto(batch=tensors, non_tensor_batch={"uid": np.array(uids, dtype=object)})


def advantages(estimator, data):
    """Return each row's advantage as verl's v1 trainer computes it."""
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    keys = [f"{uid}_{at}_0" for at, uid in enumerate(data.non_tensor_batch["uid"])]
    done = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=keys,
        adv_estimator=estimator,
        num_repeat=3,
        config=OmegaConf.create({"adv_estimator": estimator}),
    )
    assert torch.equal(done.batch["advantages"], done.batch["returns"])
    return done.batch["advantages"].amax(dim=1) + done.batch["advantages"].amin(dim=1)


def halves(row):
    """Return what `advantages` sums for a row whose tokens all have an advantage."""
    return [2 * one for one in row]


UIDS = ["a", "b", "one", "a", "b", "b", "c", "c"]
REWARDS = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_the_estimator_is_registered_and_runs_in_verl():
    from verl.trainer.ppo.core_algos import AdvantageEstimator

    importlib.import_module("sojourn.trainers.verl_hooks")
    ours.install(curriculum())
    right = advantages("sojourn", proto(REWARDS, UIDS))
    wanted = [0.707, -0.577, 0.0, -0.707, -0.577, 1.155, 0.0, 0.0]
    assert right.tolist() == pytest.approx(halves(wanted), abs=3e-3)
    stock = advantages(AdvantageEstimator.GRPO, proto(REWARDS, UIDS))
    assert stock[2].item() == pytest.approx(2.0, abs=1e-3)  # a group of one: its raw reward
    others = [at for at in range(len(UIDS)) if at != 2]
    assert stock[others].tolist() == pytest.approx(right[others].tolist(), abs=3e-3)


def test_rejected_rows_shift_verls_baseline_and_not_ours():
    from verl.trainer.ppo.core_algos import AdvantageEstimator

    importlib.import_module("sojourn.trainers.verl_hooks")
    ours.install(curriculum())
    rewards, uids, counted = [100.0, 1.0, 0.0], ["a"] * 3, [0, 1, 1]
    right = advantages("sojourn", proto(rewards, uids, counted))
    assert right.tolist() == pytest.approx(halves([0.0, 0.707, -0.707]), abs=3e-3)
    stock = advantages(AdvantageEstimator.GRPO, proto(rewards, uids, counted))
    assert stock.tolist() == pytest.approx(halves([0.0, -0.569, -0.586]), abs=3e-3)


def test_the_restated_rule_is_verls():
    from test_trainers_ragged import verl as restated
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    groups = [[1.0], [0.25], [1.0, 0.0], [0.0, 0.5, 1.0, 1.0]]
    flat = [one for group in groups for one in group]
    uids = np.array([at for at, group in enumerate(groups) for _ in group])
    data = proto(flat, uids)
    got, _ = compute_grpo_outcome_advantage(
        data.batch["token_level_rewards"], data.batch["response_mask"], uids
    )
    wanted = [one for group in restated(groups) for one in group]
    assert got[:, 0].tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.fixture
def data_config(tmp_path, monkeypatch):
    """Return verl's data configuration for a data set of 40 prompts, and a settings file."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{at} + {at}"}],
            "data_source": ("maths", "code")[at % 2],
            "reward_model": {"ground_truth": str(2 * at)},
            "extra_info": {"index": at, "difficulty": at / 40},
        }
        for at in range(40)
    ]
    for name in ("train", "val"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    settings = tmp_path / "rollouts.toml"
    settings.write_text(
        '[plan]\nbatch_groups = 4\nrollouts_per_group = 3\n[select]\npolicy = "mopps"\n'
        '[allocate]\npolicy = "rollout_gdro_inspired"\n'
    )
    return OmegaConf.create(
        {
            "train_files": str(tmp_path / "train.jsonl"),
            "val_files": str(tmp_path / "val.jsonl"),
            "custom_cls": {"path": "pkg://sojourn.trainers.verl_hooks", "name": "RowsChosen"},
            "sojourn": str(settings),
            "cache_dir": str(tmp_path / "cache"),
            "dataloader_num_workers": 0,
            "filter_overlong_prompts": False,
            "train_batch_size": 4,
            "shuffle": False,
        }
    )


def data_set(config, files, tmp_path, monkeypatch):
    """Make a data set as verl's trainer does."""
    import datasets
    from verl.utils.dataset.rl_dataset import get_dataset_class

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    return get_dataset_class(config)(files, tokenizer=None, processor=None, config=config)


def loader(config, rows):
    """Make a data loader as verl's trainer does."""
    from torchdata.stateful_dataloader import StatefulDataLoader
    from verl.trainer.ppo.utils import create_rl_sampler
    from verl.utils.dataset.rl_dataset import collate_fn

    return StatefulDataLoader(
        dataset=rows,
        batch_size=config.train_batch_size,
        num_workers=config.dataloader_num_workers,
        drop_last=True,
        collate_fn=collate_fn,
        sampler=create_rl_sampler(config, rows),
    )


def prompts_in(batch_dict):
    """Return each prompt of a batch as verl's agent loop worker takes it apart."""
    from verl.utils import tensordict_utils as tu

    batch_dict["uid"] = np.array([f"u{at}" for at in range(4)], dtype=object)
    batch = tu.get_tensordict(batch_dict)
    taken = []
    for at in range(len(batch)):
        prompt = {}
        for key, value in batch.items():
            if isinstance(value, torch.Tensor):
                prompt[key] = value[at]
            elif isinstance(value, tensordict.NonTensorStack):
                prompt[key] = value[at].data
        taken.append(prompt)
    return taken


def test_the_data_set_gives_chosen_rows_with_their_count(data_config, tmp_path, monkeypatch):
    train = data_set(data_config, data_config.train_files, tmp_path, monkeypatch)
    val = data_set(data_config, data_config.val_files, tmp_path, monkeypatch)
    assert val.curriculum is None
    assert ours.installed() is train.curriculum
    prompts = train.curriculum.run.prompts
    assert [one.domain for one in prompts[:2]] == ["maths", "code"]
    assert prompts[20].meta["difficulty"] == 0.5
    taken = prompts_in(next(iter(loader(data_config, train))))
    assert sum(int(one["__rollout_n__"]) for one in taken) <= 12
    for one in taken:
        assert list(range(one["__rollout_n__"]))  # verl's own use of it
        assert one["index"] == one[ours.PROMPT]
        assert one["raw_prompt"][0]["content"] == f"{one['index']} + {one['index']}"
    assert [row["index"] for row in val.__getitems__([3, 5])] == [3, 5]


def test_the_curriculum_is_saved_with_verls_data_loader(data_config, tmp_path, monkeypatch):
    one = data_set(data_config, data_config.train_files, tmp_path, monkeypatch)
    first = loader(data_config, one)
    rows = iter(first)
    for step in (1, 2, 3):
        taken = prompts_in(next(rows))
        ours.end_step(one.curriculum, came_back(taken), step - 1, -1)
    saved = tmp_path / "data.pt"
    torch.save(first.state_dict(), saved)
    two = data_set(data_config, data_config.train_files, tmp_path, monkeypatch)
    second = loader(data_config, two)
    second.load_state_dict(torch.load(saved, weights_only=False))
    again = iter(second)
    assert two.curriculum.state_dict() == one.curriculum.state_dict()
    assert [row[ours.PROMPT] for row in prompts_in(next(rows))] == [
        row[ours.PROMPT] for row in prompts_in(next(again))
    ]


def came_back(taken, reward=lambda row, sample: float((row[ours.PROMPT] + sample) % 2)):
    return [
        ours.Trajectory(row[ours.GROUP], sample, 0, reward(row, sample), 5, 0)
        for row in taken
        for sample in range(row["__rollout_n__"])
    ]


def test_workers_and_missing_settings_are_refused(data_config, tmp_path, monkeypatch):
    data_config.dataloader_num_workers = 8
    with pytest.raises(UserError, match="dataloader_num_workers is 8; it must be 0"):
        data_set(data_config, data_config.train_files, tmp_path, monkeypatch)
    del data_config["sojourn"]
    with pytest.raises(UserError, match=r"data\.sojourn is not set"):
        data_set(data_config, data_config.train_files, tmp_path, monkeypatch)


class Queue:
    """verl's transfer queue in one process: tags and columns by key."""

    def __init__(self):
        self.tags = {}
        self.columns = {}

    def kv_list(self):
        return {"train": {key: dict(tag) for key, tag in self.tags.items()}}

    def kv_clear(self, partition_id, keys):
        assert partition_id == "train"
        for key in keys:
            self.tags.pop(key, None)
            self.columns.pop(key, None)

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert partition_id == "train"
        rows = [self.columns[key] for key in keys]
        got = {}
        for name in select_fields:
            if any(name not in row for row in rows):
                raise ValueError(f"no field {name!r}")
            values = [row[name] for row in rows]
            if name == "rm_scores":
                got[name] = torch.nested.as_nested_tensor(values, layout=torch.jagged)
            else:
                got[name] = tensordict.NonTensorStack(*values)
        return got

    def rolled_out(self, step, row, uid, rewards, status="finished"):
        """Put a prompt's group in, as verl's workers do."""
        self.tags[uid] = {"is_prompt": True, "status": status, "global_steps": step}
        for session, reward in enumerate(rewards):
            key = f"{uid}_{session}_0"
            tokens = 3 + session
            scores = torch.zeros(tokens)
            scores[-1] = reward
            self.columns[key] = {ours.GROUP: row[ours.GROUP], "rm_scores": scores}
            self.tags[key] = {
                "status": "success",
                "global_steps": step,
                "min_global_steps": step - 1,
                "max_global_steps": step - 1,
                "response_len": tokens,
                "prompt_len": 7,
                "seq_len": 7 + tokens,
            }


@pytest.fixture
def queue(monkeypatch):
    made = Queue()
    for module in ("verl.trainer.ppo.v1.replay_buffer", "sojourn.trainers.verl_buffer"):
        monkeypatch.setattr(importlib.import_module(module), "tq", made)
    return made


def buffer(name, mode, refill=None, **sampler_kwargs):
    """Make a buffer as verl's trainer does with a custom sampler."""
    from verl.utils.import_utils import load_extern_object

    kind = load_extern_object("pkg://sojourn.trainers.verl_buffer", name)
    return kind(
        trainer_mode=mode,
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=8,
        max_off_policy_strategy="drop",
        sampler_kwargs=OmegaConf.create(sampler_kwargs),
        refill_fn=refill,
    )


def prepared(**tables):
    run = curriculum(**tables)
    ours.install(run)
    return run


def row(prompt_id):
    return {"index": prompt_id}


def test_the_buffer_reports_what_it_samples(queue):
    run = prepared()
    made = buffer("GroupsObserved", "sync")
    for step in range(1, 4):
        for at, one in enumerate(ours.rows(run, row, 4)):
            rewards = [float(sample == at % 3) for sample in range(3)]
            queue.rolled_out(step, one, f"{step}-{at}", rewards)
        batch, metrics = made.sample(global_steps=step, partition_id="train", batch_size=4)
        assert len(batch.keys) == 12
        assert metrics["sojourn/tokens.trained"] == 48.0 * step
        assert metrics["sojourn/mixed_groups_mean"] == 1.0
        queue.kv_clear("train", batch.keys)
    assert run.run.beliefs.trials == 36
    assert run.run.version == 3
    assert not queue.tags


def test_a_group_with_a_failed_session_is_ragged(queue):
    run = prepared()
    made = buffer("GroupsObserved", "sync")
    for at, one in enumerate(ours.rows(run, row, 4)):
        rewards = [1.0, 0.0, 0.0][: 3 if at else 2]
        queue.rolled_out(1, one, f"u{at}", rewards, "finished" if at else "failure")
    made.sample(global_steps=1, partition_id="train", batch_size=4)
    assert run.run.beliefs.trials == 11
    assert run.run.ended["failed"] == 1


def test_the_asynchronous_buffer_observes_what_it_drops(queue):
    run = prepared(plan={"staleness_versions": 20, "staleness_groups": 80})
    taken = ours.rows(run, row, 4)
    asked = []

    def refill(count):
        asked.append(count)
        for at, one in enumerate(ours.rows(run, row, count)):
            queue.rolled_out(12, one, f"new{at}", [1.0, 0.0, 1.0])

    made = buffer("GroupsObservedAsync", "colocate_async", refill)
    for at, one in enumerate(taken):
        queue.rolled_out(1 if at < 2 else 11, one, f"u{at}", [1.0, 0.0, 0.0])
    batch, metrics = made.sample(global_steps=12, partition_id="train", batch_size=4)
    assert asked == [2]
    assert {key.split("_")[0] for key in batch.keys} == {"u2", "u3", "new0", "new1"}
    assert run.run.groups_over["discarded"] == 2
    assert run.run.beliefs.read(taken[0][ours.PROMPT], 12).trials == 3
    assert metrics["training/off_policy/evicted_samples"] == 2


def test_verls_filter_still_works_through_sampler_kwargs(queue):
    run = prepared()
    made = buffer(
        "GroupsObserved",
        "sync",
        lambda _: None,
        filter_groups_metric="reward",
        train_batch_size=4,
        gen_batch_size=1,
    )
    for at, one in enumerate(ours.rows(run, row, 4)):
        queue.rolled_out(1, one, f"u{at}", [1.0] * 3 if at == 0 else [0.0, 1.0, 0.0])
    made._sync_metadata_from_transfer_queue()
    reasons = made._terminal_eviction_reasons(1, "train")
    made._evict_terminal_groups(1, "train", reasons)
    assert reasons[1] == {"u0"}
    assert run.run.groups_over["discarded"] == 1
    with pytest.raises(UserError, match="did you mean 'filter_groups_metric'"):
        buffer("GroupsObserved", "sync", filter_group_metric="reward")


def test_rewards_that_are_not_there_yet_are_named(queue):
    run = prepared()
    made = buffer("GroupsObserved", "sync")
    for at, one in enumerate(ours.rows(run, row, 4)):
        queue.rolled_out(1, one, f"u{at}", [1.0, 0.0, 0.0])
    for columns in queue.columns.values():
        del columns["rm_scores"]
    with pytest.raises(UserError, match="rewards must be computed by the reward loop"):
        made.sample(global_steps=1, partition_id="train", batch_size=4)


def test_batches_of_another_size_are_refused(queue):
    run = prepared(plan={"staleness_versions": 1})
    made = buffer("GroupsObserved", "sync")
    for at, one in enumerate(ours.rows(run, row, 5)):
        queue.rolled_out(1, one, f"u{at}", [1.0, 0.0, 0.0])
    with pytest.raises(UserError, match="train_batch_size is 5"):
        made.sample(global_steps=1, partition_id="train", batch_size=5)


def test_verls_own_client_sends_our_names():
    from verl.workers.rollout.llm_server import LLMServerClient

    server = Server("first")
    calls = []

    def remote(name, answer):
        async def asked(**fields):
            calls.append((name, fields))
            return answer

        return SimpleNamespace(remote=asked)

    def release(**fields):
        calls.append(("release_server", fields))

    balancer = SimpleNamespace(
        require_acquire_fields=remote("require_acquire_fields", ["prompt_ids"]),
        require_release_fields=remote("require_release_fields", ["request_id"]),
        acquire_server=remote("acquire_server", ("first", server)),
        release_server=SimpleNamespace(remote=release),
    )
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"name": "vllm"}}})
    client = LLMServerClient(config, balancer)
    fields = {ours.GROUP: 7, ours.RUN: "demo", "session_id": 2}

    async def two_turns():
        one = ours.named(client, fields)
        for tokens in (1, 2):
            await one.generate("session", prompt_ids=[1] * tokens, sampling_params={})
        await client.generate("other", prompt_ids=[1], sampling_params={})

    asyncio.run(two_turns())
    names = [asked["request_id"] for asked in server.asked]
    assert names[:2] == ["demo.g7.s2.t0", "demo.g7.s2.t1"]
    assert len(names[2]) == 32  # a rollout that is not ours keeps verl's random id
    counts = [name for name, _ in calls]
    assert counts.count("require_acquire_fields") == 1
    assert counts.count("acquire_server") == counts.count("release_server") == 3


@pytest.mark.parametrize("name", ["NamedSingleTurn", "NamedTool"])
def test_agent_loops_run_under_a_name(name, monkeypatch):
    agents = importlib.import_module("sojourn.trainers.verl_agents")
    kind = getattr(agents, name)
    seen = {}

    async def run(self, sampling_params, **kwargs):
        seen.update(kwargs, client=self.server_manager)
        return "output"

    monkeypatch.setattr(kind.__mro__[2], "run", run)
    loop = object.__new__(kind)
    loop.server_manager = SimpleNamespace(
        _vllm_request_id=None, _acquire_server=None, _release_server=None
    )
    fields = {ours.GROUP: 7, ours.RUN: "demo", "session_id": 2}
    assert asyncio.run(loop.run({}, **fields)) == "output"
    assert str(seen["client"].name) == "demo.g7.s2.t0"


def test_verl_loads_the_balancer_by_name(tmp_path):
    from verl.workers.rollout.router import _load_router_yaml, _resolve_router_class

    file = tmp_path / "router.yaml"
    file.write_text(
        "router_class: sojourn.trainers.token_balancer.TokenBalancer\nanswer_tokens: 10\n"
    )
    config = _load_router_yaml(str(file))
    made = _resolve_router_class(config["router_class"])({"a": "A"}, config)
    assert made.acquire_server("s", prompt_ids=[1, 2]) == ("a", "A")
    assert made.tokens == {"a": 12}
