"""Route slot: which replica gets a request."""

from typing import Any, Final

from sojourn.policies.route import (
    early_rejection,
    infaas,
    join_shortest_tokens,
    laps,
    least_connections,
    least_load,
    llumnix,
    llumnix_code,
    mooncake_conductor,
    most_loaded,
    on_demand,
    pool_forward,
    power_of_two,
    preble_e2,
    prefix_aware,
    random_choice,
    round_robin,
    session_sticky,
    sticky_until_saturated,
    stochastic_balance,
    vllm_data_parallel,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "early_rejection": (early_rejection.Config, early_rejection.EarlyRejection),
    "infaas": (infaas.Config, infaas.Infaas),
    "join_shortest_tokens": (join_shortest_tokens.Config, join_shortest_tokens.JoinShortestTokens),
    "laps": (laps.Config, laps.Laps),
    "least_connections": (least_connections.Config, least_connections.LeastConnections),
    "least_load": (least_load.Config, least_load.LeastLoad),
    "llumnix": (llumnix.Config, llumnix.Llumnix),
    "llumnix_code": (llumnix_code.Config, llumnix_code.LlumnixCode),
    "mooncake_conductor": (mooncake_conductor.Config, mooncake_conductor.MooncakeConductor),
    "most_loaded": (most_loaded.Config, most_loaded.MostLoaded),
    "on_demand": (on_demand.Config, on_demand.OnDemand),
    "pool_forward": (pool_forward.Config, pool_forward.PoolForward),
    "power_of_two": (power_of_two.Config, power_of_two.PowerOfTwo),
    "preble_e2": (preble_e2.Config, preble_e2.PrebleE2),
    "prefix_aware": (prefix_aware.Config, prefix_aware.PrefixAware),
    "random_choice": (random_choice.Config, random_choice.RandomChoice),
    "round_robin": (round_robin.Config, round_robin.RoundRobin),
    "session_sticky": (session_sticky.Config, session_sticky.SessionSticky),
    "sticky_until_saturated": (
        sticky_until_saturated.Config,
        sticky_until_saturated.StickyUntilSaturated,
    ),
    "stochastic_balance": (stochastic_balance.Config, stochastic_balance.StochasticBalance),
    "vllm_data_parallel": (vllm_data_parallel.Config, vllm_data_parallel.VllmDataParallel),
}
