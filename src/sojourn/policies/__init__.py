"""Published scheduling policies: a folder for each slot, a file for each algorithm."""
