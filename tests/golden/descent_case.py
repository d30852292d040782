"""descent/: coordinate descent as colt5-attention has it (coordinate-descent-attention takes it from there): after a
few iterations with a falling epsilon, and where thousands of iterations end."""
import torch
from colt5_attention.coor_descent import coor_descent

import reference

SEED = 41
ITERATIONS = 1500  # enough for a k between two whole numbers


def draw(rng):
    count = rng.randint(4, 60)
    return dict(rows=rng.randint(1, 4), count=count, k=rng.randint(0, count - 2) + rng.uniform(0.3, 0.7),
                spread=rng.uniform(0.2, 2), steps=rng.randint(1, 40), epsilon=rng.uniform(0.2, 1),
                start=rng.uniform(1, 4), decay=rng.uniform(0.6, 1))


def write(folder, seed=SEED, rows=3, count=40, k=6.5, spread=1.0, steps=20, epsilon=0.3, start=4.0, decay=0.7):
    torch.manual_seed(seed)
    scores = (spread * torch.randn(rows, count)).double()
    weights = coor_descent(scores, n_iters=steps, k=k, eps=epsilon, eps_init=start, eps_decay=decay)
    limit = coor_descent(scores, n_iters=ITERATIONS, k=k, eps=epsilon)
    settings = torch.tensor([k, epsilon, steps, start, decay])
    reference.save_tensors(folder / "descent.safetensors", {
        "scores": scores.float(), "settings": settings, "weights": weights.float(), "limit": limit.float()})
