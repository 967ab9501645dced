"""Fleets in virtual time: many replicas, what moves between them, and what goes wrong."""
