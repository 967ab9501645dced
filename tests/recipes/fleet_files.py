"""Fleet files for tests: a small one, and ways to write others."""

from __future__ import annotations

SPLIT = """\
name = "split"

[[replicas]]
name = "prefill"
role = "prefill"
count = 1
gpu = "h100-sxm"

[[replicas]]
name = "decode"
role = "decode"
count = 2
gpu = "l4"
max_num_seqs = 64
market = "spot"

[[links]]
between = ["prefill", "decode"]
kind = "ethernet"
total_gb_per_second = 20

[reports]
period_seconds = 0.1
age_seconds = 0.05

[lost]
policy = "retry"
attempts = 2

[migration]
most_stages = 4
last_blocks = 8

[[faults]]
kind = "crash"
at_seconds = 20
group = "decode"
for_seconds = 5

[[faults]]
kind = "cut"
at_seconds = 40
between = ["prefill", "decode"]
for_seconds = 1

[route]
policy = "least_load"
waiting_weight = 2
"""

MIXED = """\
name = "mixed"

[[replicas]]
count = 2
"""
