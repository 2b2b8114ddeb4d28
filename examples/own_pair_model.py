"""A model of user-item pairs of your own: computed behind the requests, served from then on.

[pairs.overlap]                              # in own.toml, beside [models.tower]
factory = "own_pair_model:build"
ttl = "6h"                                   # and a ranker that reads it: own_ranker.py
"""

import torch
from torch import nn


class Overlap(nn.Module):
    """How near an item is to what the user took to, by random vectors of hashed ids."""

    def __init__(self, rows=4096, width=16):
        super().__init__()
        self.vectors = nn.Embedding(rows, width)

    def of(self, hashes):
        return self.vectors(hashes % self.vectors.num_embeddings)

    # items int64 [U, H]: the users' histories; row_user int64 [R]: whose pair; item_hashes [R]
    def forward(self, items, row_user, item_hashes):
        used = (items != 0).float()[:, :, None]
        taste = (self.of(items) * used).sum(1) / (used.sum(1) + 1)
        wanted = self.of(item_hashes)
        return torch.cat([taste[row_user] * wanted, wanted], 1)  # [R, 32]


def build(snapshot):
    torch.manual_seed(7)
    return Overlap()
