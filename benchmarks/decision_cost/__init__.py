"""What deciding costs: our `schedule()` beside stock's, without a model, in one process."""
