"""Hardware and model facts, each row citing its source."""

from sojourn.catalog.facts import Gpu, Model
from sojourn.catalog.load import gpu_names, load_gpu, load_model, model_names

__all__ = ["Gpu", "Model", "gpu_names", "load_gpu", "load_model", "model_names"]
