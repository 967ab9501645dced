"""Which design of a fleet of 16 GPUs wins on which traffic, at which load, and why."""
