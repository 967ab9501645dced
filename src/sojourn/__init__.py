"""Sojourn decides which LLM work runs, where, when and with how much compute."""

__version__ = "0.1.0"
