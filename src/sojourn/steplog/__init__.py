"""The one record of what happened in a run, written alike by the simulator and by real engines."""
