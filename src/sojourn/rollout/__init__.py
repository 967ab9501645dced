"""Rollouts of reinforcement learning: which prompts, how many, what to stop, keep and resume."""
