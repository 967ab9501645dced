"""A tiny model learns to add by GRPO on the CPU, its rollouts decided by the rollout machine."""
