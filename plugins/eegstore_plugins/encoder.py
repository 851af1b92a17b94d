"""A compact network from EEG to an embedding: convolutions, then attention over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS = 24
HEADS = 4
KERNEL_S = 0.1
LIMIT = 20.0  # standard deviations; what is beyond is no brain's


class Encoder(nn.Module):
    """EEG, (trial, channel, time), to unit vectors, (trial, embedding).

    Filters over all channels and a tenth of a second or more give features of about 24 spans of
    time, which overlap; one layer of attention relates these (Vaswani et al. 2017), and a linear
    map of them all is the embedding.

    Parameters
    ----------
    n_channels, n_times, sfreq
        Of the trials; ``sfreq`` in Hz.
    embedding
        The width of the result.
    width
        The number of filters, and so of features of each span of time.
    dropout
        The share of these that training leaves out at random.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, n_channels: int, n_times: int, sfreq: float, embedding: int, width: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_channels, 1))
        self.register_buffer("scale", torch.ones(n_channels, 1))
        span = max(1, round(n_times / TOKENS))
        shortest = round(KERNEL_S * sfreq) if math.isfinite(sfreq) else 1
        kernel = min(n_times, max(2 * span, shortest))
        n_tokens = (n_times - kernel) // span + 1
        self.filters = nn.Conv1d(n_channels, width, kernel, stride=span)
        self.position = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        self.attention = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_tokens * width, embedding)
        # The inverse of a temperature; its logarithm is learnt (Radford et al. 2021).
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, eeg: Tensor) -> Tensor:
        """The embedding of each trial."""
        standardised = ((eeg - self.mean) / self.scale).clamp(-LIMIT, LIMIT)
        tokens = self.filters(standardised).transpose(1, 2) + self.position
        related = self.dropout(self.attention(tokens).flatten(1))
        return functional.normalize(self.head(related).float(), dim=-1)
