"""conditional/: the conditional feed-forward of colt5-attention, with the package's router and the feed-forwards of
block-recurrent-transformer-pytorch, which ours are.

It chooses among the tokens of one text, later ones too, where brt goes by the block before: brt is given this text
itself as the block before. The weights are then those of the descent's end, which the package is given the
iterations for. One route: with several, rows of a batch get each other's."""
import torch
from block_recurrent_transformer_pytorch.block_recurrent_transformer_pytorch import FeedForward
from colt5_attention import ConditionalRoutedFeedForward

import reference

SEED = 43
EPSILON = 0.3
ITERATIONS = 1000
SPREAD = 0.6        # of the scores, as a new router of brt has them: larger ones have no gradient
FETCHED = 9 / 8  # of the chosen: k of the descent


def draw(rng):
    time = rng.randint(4, 30)
    chosen = rng.choice([k for k in range(1, int(0.8 * time) + 1) if FETCHED * k % 1])
    return dict(batch=rng.randint(1, 3), time=time, dim=rng.randint(4, 12), chosen=chosen,
                heavy=rng.randint(1, 4), light=rng.choice((0.5, 1, 2)))


def chooses_the_best(module, x):
    """The package takes those of the largest weights, and any of those of weight 1: brt those of the largest scores."""
    best = (x @ module.router.routing_token[0]).topk(module.num_heavy_tokens).indices
    chosen = module.router(x, num_tokens=module.num_heavy_tokens).indices
    return bool((best.sort().values == chosen.sort().values).all())


def build(dim, chosen, heavy, light):
    module = ConditionalRoutedFeedForward(
        dim, num_heavy_tokens=chosen, router_kwargs=dict(n_iters=ITERATIONS, eps=EPSILON, eps_init=EPSILON))
    torch.nn.init.normal_(module.router.routing_token, std=SPREAD * dim ** -0.5)
    module.heavy_ff, module.light_ff = FeedForward(dim, heavy)[1:], FeedForward(dim, light)[1:]  # of what is normalised
    return module


def write(folder, seed=SEED, batch=2, time=13, dim=6, chosen=3, heavy=4, light=1):
    torch.manual_seed(seed)
    while True:
        module = build(dim, chosen, heavy, light).double()
        x = torch.randn(batch, time, dim, dtype=torch.double, requires_grad=True)
        if chooses_the_best(module, x):
            break
    gains = torch.randn(batch, time, dim)
    y = module(x)
    (y * gains).sum().backward()
    names = {"router.weight": module.router.routing_token, "1.weight": module.heavy_ff[0].weight,
             "3.weight": module.heavy_ff[2].weight, "light.1.weight": module.light_ff[0].weight,
             "light.3.weight": module.light_ff[2].weight}
    tensors = {"x": x, "gains": gains, "y": y, "grad.x": x.grad, "settings": torch.tensor([chosen, heavy, light])}
    for name, parameter in names.items():
        tensors |= {name: parameter, f"grad.{name}": parameter.grad}
    reference.save_tensors(folder / "conditional.safetensors", {name: t.float() for name, t in tensors.items()})
