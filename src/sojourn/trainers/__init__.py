"""Trainers: what an RL training loop asks, and adapters for frameworks that own the loop.

`curriculum` needs nothing but the standard library; `verl` holds what its adapter does without
importing verl, and `verl_hooks` the classes that verl loads by name.
"""
