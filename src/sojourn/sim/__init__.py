"""The simulator: discrete events in virtual time; one seed, same bytes."""
