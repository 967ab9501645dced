"""Training runs in virtual time: engines, trainer, rewards and tools around the rollout machine."""
