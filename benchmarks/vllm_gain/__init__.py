"""What recipes gain in real vLLM over the best stock configuration, measured in one session."""
