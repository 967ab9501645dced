"""How fast fleets are simulated, beside the simulator of a single replica."""
