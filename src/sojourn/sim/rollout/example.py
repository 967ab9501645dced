"""A scenario to begin with, as `sojourn rollout scenario` prints it: every table, explained."""

from __future__ import annotations

from typing import Final

EXAMPLE: Final = """\
# sojourn rollout compare scenario.toml
# Every key may be left out; what stands here is the default unless it says otherwise.
name = "example"
steps = 20                      # training steps of each run
warmup_steps = 5                # of those, how many no number counts
seeds = 5                       # so many seeds, or a list of them
baseline = "sync"               # what the others are held against; default: the first candidate
lag_versions_max = 1.0          # older tokens on average: not recommended, however fast
bounds = true                   # also run selection by the truth, for the share of the gap

# Candidates: presets by name (sync, april, april-1.25, async, windowed, dapo, mopps, dots), and
# tables that change a preset. Slots: select, allocate, control, dispatch, replay, subsample,
# advantage; `sojourn policies` lists what fills them.
candidates = [
  "sync",
  "april-1.25",
  { name = "april, 1.5", preset = "april", control = { policy = "april", ratio = 1.5 } },
  "async",
]

[plan]
batch_groups = 32               # groups in a training batch
rollouts_per_group = 8
tokens_max = 16384              # sampled tokens after which a rollout is truncated
staleness_versions = 0          # candidates may change it: plan = { staleness_versions = 2 }
batches_per_version = 1         # batches trained before the engines get new weights

[prompts]                       # or your own, file = "rollouts.csv": see the reference
count = 2000
tokens_median = 200.0
tokens_sigma_log = 0.5
domains = { maths = 0.7, code = 0.3 }   # default: one domain

[truth]                         # of the policy in training, in logits of success
logit_mean = -0.3
logit_sd = 1.8
domain_sd = 0.5                 # what prompts of a domain have in common
drift_logits = 0.005            # every prompt, each version
gain_logits = 0.1               # a prompt trained on a group with different rewards
domain_gain_logits = 0.0005     # the others of its domain
forget_share = 0.01             # of all gains, each version
jump_share = 0.0                # share of prompts that jump, each version
jump_logits = 2.0
reward_noise = 0.0              # probability that a reward is the wrong one
feature_auc = 0.5               # how well a running rollout's features tell success

[lengths]                       # sampled tokens of a rollout; file = "trace.parquet" for recorded
median_tokens = 1500.0
sigma_log = 0.8
tail_share = 0.0                # share in a Pareto tail
tail_alpha = 1.5
group_correlation = 0.5         # how alike the rollouts of a prompt are: sweep it
difficulty_correlation = 0.3    # hard prompts are long
wrong_factor = 1.2              # failures are longer
growth_log = 0.0                # of all lengths, each version

[engines]
model = "llama-3.1-8b"          # of `sojourn catalog`, or cost = "fitted.toml" + kv_cache_tokens
gpu = "h100-sxm"
count = 1
tensor_parallel_size = 1
max_num_seqs = 256
max_num_batched_tokens = 8192
load_period_seconds = 5.0       # engines report their load

[rewards]
seconds_median = 1.0
seconds_sigma_log = 0.0

[tools]                         # agents: more than one turn on average
turns_mean = 1.0
observation_tokens = 200
seconds_median = 2.0
seconds_sigma_log = 0.8
failure_share = 0.0

[trainer]
update_seconds = 5.0            # fixed, and for each trained token
update_token_seconds = 2e-6
sync_seconds = 2.0              # to load new weights into the engines
sync_mode = "abort"             # abort, wait or keep: vLLM's pause_generation
clear_cache = true              # KV of older weights is forgotten
shares_gpus = false             # training runs on the engines' GPUs

[beliefs]                       # what is remembered of each prompt
update_keep = 1.0
version_keep = 1.0

# [[losses]]                    # an engine is lost with all that it holds
# at_seconds = 600.0
# engine = 0
# for_seconds = 120.0           # until another comes up in its place; 0 for never
"""
