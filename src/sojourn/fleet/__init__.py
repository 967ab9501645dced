"""What decides about a fleet is told of it, and what it may say: pure, like `decide`."""
