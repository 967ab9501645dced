"""How well a fit to one run of real vLLM predicts other runs, beside the machine's own noise."""
