"""Speed of the simulator: requests per CPU second of whole commands, beside two aims and a peer."""
