"""The decide layer: events in, actions out; pure, the same in every host."""
