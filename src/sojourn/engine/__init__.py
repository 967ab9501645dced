"""The engine model: blocks, prefix cache and step execution of one replica, for the simulator."""
