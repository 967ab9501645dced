"""Compares the cost model with measurements that this project did not make."""
