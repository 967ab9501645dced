"""Replays a Mooncake trace with NVIDIA Dynamo's offline simulator; run by that Python itself."""

import json
import sys

from dynamo._core import run_mocker_trace_replay

ENGINE = {
    "engine": {
        "backend": "vllm",
        "block_size": 16,
        "num_gpu_blocks": int(sys.argv[2]),
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
    },
    "num_gpu_blocks_is_explicit": True,
}

result = run_mocker_trace_replay(
    [sys.argv[1]], extra_engine_args=ENGINE, replay_mode="offline", trace_block_size=16
)
kept = ("completed_requests", "duration_ms", "mean_ttft_ms", "mean_tpot_ms")
print(json.dumps({key: result.summary[key] for key in kept}))
