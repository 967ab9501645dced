"""What the adapter relies on in verl, recorded from version 0.9.1 (PyPI, September 2026).

Each row is a module, a name in it, and the parameters that the adapter passes or is called with.
`test_trainers_verl_installed.py` compares the rows with an installed verl; the other tests hold the
adapter to them where there is none.
"""

from __future__ import annotations

VERSION = "0.9.1"

CALLABLES = {
    # called by verl: compute_advantage(...) -> fn(token_level_rewards=, response_mask=, config=,
    # index=uid); returns (advantages, returns), both (rows, tokens)
    ("verl.trainer.ppo.core_algos", "register_adv_est"): ("name_or_enum",),
    ("verl.trainer.ppo.core_algos", "get_adv_estimator_fn"): ("name_or_enum",),
    ("verl.trainer.ppo.core_algos", "compute_grpo_outcome_advantage"): (
        "token_level_rewards",
        "response_mask",
        "index",
        "epsilon",
        "norm_adv_by_std_in_grpo",
        "config",
    ),
    # estimators other than verl's own GRPO get all rows of the batch, padding included
    ("verl.trainer.ppo.v1.utils", "compute_advantage_for_multi_trajectories"): (
        "data",
        "batch_keys",
        "adv_estimator",
        "gamma",
        "lam",
        "num_repeat",
        "norm_adv_by_std_in_grpo",
        "config",
    ),
    # "pkg://a.b" imports a module, a path executes the file anew each time
    ("verl.utils.import_utils", "load_extern_object"): ("module_path", "object_name"),
    ("verl.utils.dataset.rl_dataset", "get_dataset_class"): ("data_config",),
    ("verl.utils.dataset.rl_dataset", "collate_fn"): ("data_list",),
    ("verl.utils.dataset.rl_dataset", "RLHFDataset"): (
        "data_files",
        "tokenizer",
        "config",
        "processor",
        "max_samples",
    ),
    # sequential or random; no curriculum sampler any more
    ("verl.trainer.ppo.utils", "create_rl_sampler"): ("data_config", "dataset"),
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer"): (
        "trainer_mode",
        "trainer_config",
        "max_off_policy_threshold",
        "max_off_policy_strategy",
        "sampler_kwargs",
        "poll_interval",
        "refill_fn",
        "filter_groups_metric",
        "train_batch_size",
        "gen_batch_size",
        "max_inflight_gen_batches",
        "sync_refill_failed_groups",
    ),
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer.sample"): (
        "self",
        "global_steps",
        "partition_id",
        "batch_size",
    ),
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBufferAsync.sample"): (
        "self",
        "global_steps",
        "partition_id",
        "batch_size",
    ),
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer._clear_groups"): (
        "self",
        "partition_id",
        "uids",
    ),
    ("verl.workers.rollout.llm_server", "LLMServerClient._vllm_request_id"): (
        "self",
        "request_id",
    ),
    ("verl.workers.rollout.llm_server", "LLMServerClient._acquire_server"): (
        "self",
        "request_id",
        "extra",
    ),
    ("verl.workers.rollout.llm_server", "LLMServerClient._release_server"): (
        "self",
        "server_id",
        "request_id",
    ),
}

BALANCER = {
    "acquire_server": ("self", "request_id", "extra"),
    "release_server": ("self", "server_id", "request_id"),
    "require_acquire_fields": ("self",),
    "require_release_fields": ("self",),
    "add_servers": ("self", "servers"),
    "remove_servers": ("self", "server_ids"),
    "get_all_servers": ("self",),
    "get_status": ("self",),
    "clear_sticky_cache": ("self",),
    "get_total_inflight": ("self",),
}
"""`verl.workers.rollout.router.RequestLoadBalancer`; made as `router_class(servers, yaml)`."""

SOURCES = {
    ("verl.trainer.ppo.v1.agent_loop_tq", "AgentLoopWorkerTQ"): 'prompt.pop("__rollout_n__"',
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer"): 'batch_dict["uid"] = np.array(',
}
"""What a class must still say for a hook to have its effect: the count of each prompt is read,
and the uid of a group is verl's own."""
