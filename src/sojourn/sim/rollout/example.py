"""A scenario to begin with, as `sojourn rollout scenario` prints it: every table, explained."""

from __future__ import annotations

from typing import Final

EXAMPLE: Final = """\
# sojourn rollout compare scenario.toml
# Every key may be left out; what stands here is the default unless it says otherwise. Keys behind
# a "#" have no default, or exclude what stands beside them.
name = "example"                # in reports
steps = 20                      # training steps of each run
warmup_steps = 5                # of those, how many no number counts
seeds = 5                       # so many seeds, or a list of them
baseline = "sync"               # what the others are held against; default: the first candidate
lag_versions_max = 1.0          # older tokens on average: not recommended, however fast
bounds = true                   # also run selection by the truth, for the share of the gap

# Candidates: presets by name (sync, april, april-1.25, async, windowed, dapo, mopps, dots), and
# tables that change a preset: name, preset, plan (numbers of [plan] for it alone) and slots, which
# are select, allocate, control, dispatch, replay, subsample and advantage; `sojourn policies` lists
# what fills them.
candidates = [
  "sync",
  "april-1.25",
  { name = "april, 1.5", preset = "april", control = { policy = "april", ratio = 1.5 } },
  "async",
]

[plan]
batch_groups = 32               # groups in a training batch
rollouts_per_group = 8          # mean that allocation may spend on a prompt
groups_max = 1024               # groups that may be open at once
tokens_max = 16384              # sampled tokens after which a rollout is truncated
staleness_versions = 0          # candidates may change it: plan = { staleness_versions = 2 }
staleness_groups = -1           # groups that generation may be ahead; -1: as those versions train
batches_per_version = 1         # batches trained before the engines get new weights
turns_max = 0                   # turns after which a rollout is truncated; 0 for no limit
rounds_max = 16                 # rounds of allocation that a group may have
reward_low = 0.0                # reward that is a failure
reward_high = 1.0               # reward that is a success; those between count in part
# sampling = "default"          # name of the sampling parameters; no effect in simulation

[prompts]
count = 2000                    # how many; with file, as many as it has
tokens_median = 200.0           # of the prompts themselves, log-normal
tokens_sigma_log = 0.5          # standard deviation of their logarithm
domains = { maths = 0.7, code = 0.3 }   # default: one domain
embedding_numbers = 0           # length of each prompt's embedding; `dots` needs some, such as 8
# file = "rollouts.csv"         # your own prompts, as measured: see the reference
# columns = { reward = "score" }  # what that file calls its columns

[truth]                         # of the policy in training, in logits of success
logit_mean = -0.3               # of the prompts at the start: mean
logit_sd = 1.8                  # and standard deviation
domain_sd = 0.5                 # what prompts of a domain have in common
drift_logits = 0.005            # every prompt, each version
gain_logits = 0.1               # a prompt trained on a group with different rewards
domain_gain_logits = 0.0005     # the others of its domain
forget_share = 0.01             # of all gains, each version
jump_share = 0.0                # share of prompts that jump, each version
jump_logits = 2.0               # how far they jump, up or down
reward_noise = 0.0              # probability that a reward is the wrong one
feature_auc = 0.5               # how well a running rollout's features tell success

[lengths]                       # sampled tokens of a rollout
# file = "trace.parquet"        # recorded lengths, in place of the next four
median_tokens = 1500.0          # log-normal
sigma_log = 0.8                 # standard deviation of the logarithm
tail_share = 0.0                # share in a Pareto tail
tail_alpha = 1.5                # its exponent: the smaller, the heavier
group_correlation = 0.5         # how alike the rollouts of a prompt are: sweep it
difficulty_correlation = 0.3    # hard prompts are long
wrong_factor = 1.2              # failures are longer
growth_log = 0.0                # of all lengths, each version

[engines]
model = "llama-3.1-8b"          # of `sojourn catalog`
gpu = "h100-sxm"                # of the same
# cost = "fitted.toml"          # measured step times instead; needs kv_cache_tokens
recipe = "vllm"                 # scheduler inside each engine; see `sojourn recipes`
count = 1                       # engines, all alike
tensor_parallel_size = 1        # GPUs of each
max_num_seqs = 256              # rollouts that run at once in each
max_num_batched_tokens = 8192   # tokens of a step
max_model_len = 0               # tokens of a prompt and its rollout; 0: what the KV cache holds
block_size = 16                 # tokens of a KV block
gpu_memory_utilization = 0.9    # share of the GPU's memory to use
kv_cache_tokens = 0             # that the KV cache holds; 0: computed from the GPU's memory
enable_prefix_caching = true    # siblings find their prompt, resumed rollouts their own KV
load_period_seconds = 5.0       # engines report their load

[rewards]                       # time until a rollout has its reward, log-normal
seconds_median = 1.0            # 0 for at once
seconds_sigma_log = 0.0         # standard deviation of the logarithm

[tools]                         # agents: more than one turn on average
turns_mean = 1.0                # turns of a rollout
observation_tokens = 200        # what a tool says after a turn but the last
seconds_median = 2.0            # that it takes, log-normal
seconds_sigma_log = 0.8         # standard deviation of the logarithm
failure_share = 0.0             # of these calls, that end the rollout as failed

[trainer]
update_seconds = 5.0            # of a batch, fixed
update_token_seconds = 2e-6     # for each trained token
sync_seconds = 2.0              # to load new weights into the engines
sync_mode = "abort"             # abort, wait or keep: vLLM's pause_generation
clear_cache = true              # KV of older weights is forgotten
shares_gpus = false             # training runs on the engines' GPUs

[beliefs]                       # what is remembered of each prompt, for every candidate
prior_alpha = 1.0               # Beta distribution of a prompt never seen: its first number
prior_beta = 1.0                # its second number
update_keep = 1.0               # weight that earlier counts keep at each new group: λ of MoPPS
version_keep = 1.0              # the same for each weight version that passes
window = 8                      # groups of each prompt remembered one by one
domain_window = 1000            # latest rollouts that the shares of domains are counted by
length_keep = 0.9               # weight that earlier lengths keep at each new one
length_mean_log = 6.0           # logarithm of a length of which nothing is known: mean
length_sd_log = 1.0             # and standard deviation

# [[losses]]                    # an engine is lost with all that it holds
# at_seconds = 600.0            # when
# engine = 0                    # its number, counted from 0
# for_seconds = 120.0           # until another comes up in its place; 0 for never
"""
