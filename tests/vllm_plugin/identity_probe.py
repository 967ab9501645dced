"""A scheduler class that writes down who each request belongs to, and publishes counts.

It stands in vLLM's engine core in place of ours, so that what reaches the engine core is seen
without any policy in between.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from sojourn.vllm.identity import identify
from sojourn.vllm.metrics import DecisionMetrics
from sojourn.vllm.plugin import identity_key
from sojourn.vllm.rules import Rules


class Probe(AsyncScheduler):
    """Stock scheduling; every arrival becomes a line of the file that PROBE_FILE names."""

    def __init__(self, vllm_config, *args, **kwargs):
        super().__init__(vllm_config, *args, **kwargs)
        config = vllm_config.additional_config.get("sojourn", {})
        self.rules = Rules.from_config(config.get("identity", {}))
        self.metrics = DecisionMetrics.of(vllm_config)
        self.arrivals = self.warned = 0

    def add_request(self, request):
        extra = request.sampling_params.extra_args
        identity = identify(extra, request.priority, self.rules, identity_key(), request.session_id)
        row = {"id": request.request_id, "extra": extra, **asdict(identity)}
        with Path(os.environ["PROBE_FILE"]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        self.arrivals += 1
        self.warned += len(identity.warnings)
        self.metrics.publish(
            {
                "decisions_total": self.arrivals,
                "identity_warnings_total": self.warned,
                "shed_total:queue full": 2,
                "steps_total:act": 5,
                "waiting_requests": 1 / (self.arrivals + 1),
                "mode:shadow" if self.arrivals > 1 else "mode:act": 1,
            }
        )
        super().add_request(request)
