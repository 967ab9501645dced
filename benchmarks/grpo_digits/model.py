"""A character-level transformer that can go on from a cache, one token a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everywhere

from benchmarks.grpo_digits.digits import VOCABULARY


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes: width, layers, heads, and the longest context in tokens."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    context: int = 52


class Layer(nn.Module):
    """Attention with rotary positions, and a two-layer network; normalised before each."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def project(self, hidden: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (rows, heads, tokens, width of a head)."""
        rows, tokens, width = hidden.shape
        parts = self.qkv(self.first(hidden)).view(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return rotate(query, turn), rotate(key, turn), value

    def finish(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Return the layer's output from what attention saw."""
        hidden = hidden + self.out(seen.transpose(1, 2).flatten(2))
        return hidden + self.down(F.gelu(self.up(self.second(hidden))))


def rotate(part: Tensor, turn: Tensor) -> Tensor:
    """Turn pairs of features by angles that depend on the position."""
    even, odd = part.chunk(2, dim=-1)
    cos, sin = turn
    return torch.cat((even * cos - odd * sin, even * sin + odd * cos), dim=-1)


class Model(nn.Module):
    """The policy.

    `forward` sees whole sequences; `extend` sees one token of each row and a cache, and gives the
    same logits.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(VOCABULARY, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, VOCABULARY, bias=False)
        half = shape.width // shape.heads // 2
        speeds = 100.0 ** (-torch.arange(half) / half)
        angles = torch.arange(shape.context)[:, None] * speeds
        turns = torch.stack((angles.cos(), angles.sin()))
        self.register_buffer("turns", turns, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02 if "embed" in name else weight.shape[1] ** -0.5)

    def new_cache(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return room for keys and values: (layers, rows, heads, context, width of a head)."""
        shape = self.shape
        size = (shape.layers, rows, shape.heads, shape.context, shape.width // shape.heads)
        return torch.zeros(size), torch.zeros(size)

    def forward(self, ids: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return logits of whole sequences; a cache, as long as they are, is filled."""
        tokens = ids.shape[1]
        hidden, turn = self.embed(ids), self.turns[:, :tokens]
        for at, layer in enumerate(self.layers):
            query, key, value = layer.project(hidden, turn)
            if cache is not None:
                cache[0][at, :, :, :tokens] = key
                cache[1][at, :, :, :tokens] = value
            seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            hidden = layer.finish(hidden, seen)
        return self.head(self.norm(hidden))

    def extend(self, ids: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return logits of one more token of each row, put at `places` of the cache."""
        rows, longest = len(ids), int(places.max()) + 1
        hidden, turn = self.embed(ids)[:, None], self.turns[:, places][:, :, None, None]
        at_rows = torch.arange(rows)
        hides = torch.arange(longest)[None, :] > places[:, None]
        for at, layer in enumerate(self.layers):
            query, key, value = layer.project(hidden, turn)
            keys[at, at_rows, :, places] = key[:, :, 0]
            values[at, at_rows, :, places] = value[:, :, 0]
            scores = query @ keys[at, :rows, :, :longest].transpose(-1, -2)
            scores = scores / query.shape[-1] ** 0.5
            scores = scores.masked_fill(hides[:, None, None], float("-inf"))
            seen = scores.softmax(dim=-1) @ values[at, :rows, :, :longest]
            hidden = layer.finish(hidden, seen)
        return self.head(self.norm(hidden))[:, 0]


def parameters(model: Model) -> int:
    """Return how many weights a model has."""
    return sum(weight.numel() for weight in model.parameters())
