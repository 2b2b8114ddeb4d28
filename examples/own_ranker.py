"""A ranker of your own in torch, over a user model's and (where configured) a pair model's rows.

    [rankers.own]                                # in own.toml, beside [models.tower]
    factory = "own_ranker:build"
    options = { user = 32, pair = 32 }           # what it reads: values of the user and of a pair
    user_models = ["tower"]
    pair_models = ["overlap"]

A module runs in the engine, off the event loop. For small models an object in numpy with
`inline = True` (see own_model.py) answers sooner.
"""

import torch
from torch import nn

UNKNOWN = 6  # predawn.server.request.Source.DEFAULT: nothing is known of this pair


class Ranker(nn.Module):
    tasks, item_features = ("click", "like"), ("price",)

    def __init__(self, user, pair):
        super().__init__()
        self.user = nn.Linear(user, 32)
        self.pair = nn.Linear(pair, 32)
        self.missing = nn.Parameter(torch.zeros(32))
        self.price = nn.Linear(1, 32)
        self.out = nn.Linear(32, len(self.tasks))

    # user [U, D]; row_user [R]: the request of each candidate; the others: a row per candidate
    def forward(self, user, row_user, pairs, pair_sources, item_features):
        known = (pair_sources != UNKNOWN).all(dim=1, keepdim=True)
        pair = torch.where(known, self.pair(pairs), self.missing)
        hidden = self.user(user)[row_user] + pair + self.price(item_features.log1p())
        return self.out(hidden.relu()).sigmoid()  # [R, tasks]


def build(snapshot, user, pair):
    torch.manual_seed(7)
    return Ranker(user, pair)
