"""Your own models, in plain numpy: a user as rates of her event types, an item as its id.

Write this as `own.toml`, start, tell what a user did, ask:

    [models.rates]
    factory = "own_model:Rates"
    options = { smoothing = 5.0 }
    [rankers.own]
    factory = "own_model:ByRate"
    user_models = ["rates"]

    PYTHONPATH=examples predawn serve --config own.toml
    curl localhost:8471/v1/events --json \\
        '{"events":[{"user":7,"item":2,"types":["shown","clicked"]}]}'
    curl localhost:8471/v1/rank --json '{"user": 7, "items": [1, 2, 3]}'
"""

import numpy as np


class Rates:
    dim = 2  # clicked and liked, each per shown: columns 1 and 2 of `history.types`

    def __init__(self, snapshot, smoothing):  # snapshot: a directory or None; then the options
        self.smoothing = smoothing

    def embed(self, batch):  # predawn.server.request.UserBatch, B users -> float32 [B, dim]
        return (batch.counts[:, 1:3] / (batch.counts[:, :1] + self.smoothing)).astype(np.float32)


class ByRate:
    tasks, item_features, inline = ("click",), (), True

    def __init__(self, snapshot):
        pass

    def score(self, batch):  # predawn.server.request.RankBatch, R rows -> float32 [R, tasks]
        user = batch.user.mean(axis=1).repeat(np.diff(batch.offsets))
        item = (batch.item_hashes % np.uint64(97)).astype(np.float32) / 97
        return ((user + item) / 2).clip(0, 1)[:, None]
