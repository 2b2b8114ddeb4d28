"""A user tower of your own in torch: the parameters of `forward` say what it reads of a batch.

[models.tower]                               # in own.toml
factory = "own_tower:build"
options = { dim = 32, seed = 7 }
# or without Python in the server: `python examples/own_tower.py` writes tower.pt2, and then
# program = "tower.pt2"
"""

import torch
from torch import nn


class Tower(nn.Module):
    def __init__(self, dim, rows=4096, width=16):
        super().__init__()
        self.items = nn.Embedding(rows, width)
        self.mlp = nn.Sequential(nn.Linear(width + 5, 64), nn.GELU(), nn.Linear(64, dim))

    def forward(self, items, counts):  # int64 [B, H], newest first, 0: none; float32 [B, types]
        used = (items != 0).float()[:, :, None]
        mean = (self.items(items % self.items.num_embeddings) * used).sum(1) / (used.sum(1) + 1)
        return self.mlp(torch.cat([mean, counts.log1p()], 1))  # [B, dim]


def build(snapshot, dim, seed):  # snapshot: a directory (`snapshot = ...`) with weights, or None
    torch.manual_seed(seed)
    return Tower(dim)  # with weights: tower.load_state_dict(safetensors.torch.load_file(...))


if __name__ == "__main__":
    example = (torch.zeros(2, 32, dtype=torch.int64), torch.zeros(2, 5))
    users = {0: torch.export.Dim("users")}
    torch.export.save(
        torch.export.export(build(None, 32, 7).eval(), example, dynamic_shapes=(users, users)),
        "tower.pt2",
    )
