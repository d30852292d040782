"""reconstruction/: the attention-reconstruction loss of compressive-transformer-pytorch, which the package has not.

Its memory holds hidden vectors m, which one matrix turns into keys and values after they were compressed; ours holds
keys and values, compressed by convolutions of their own. With keys s * m (number by number) and values m rolled by
one place either does the same: our convolutions are theirs seen through the two maps. One head."""
import torch
from compressive_transformer_pytorch.compressive_transformer_pytorch import SelfAttention

import reference

SEED = 31
ROLL = 1


def draw(rng):
    factor = rng.randint(2, 5)
    return dict(batch=rng.randint(1, 4), width=factor * rng.randint(1, 4), dim=rng.randint(2, 9), factor=factor)


def build(width, factor, scale):
    dim = len(scale)
    attention = SelfAttention(dim, seq_len=width, mem_len=width, cmem_len=width // factor, cmem_ratio=factor, heads=1)
    with torch.no_grad():
        attention.to_kv.weight.copy_(torch.cat((torch.diag(scale), torch.eye(dim).roll(ROLL, dims=0))))
        attention.to_q.weight.mul_(4)  # attention far from uniform
    return attention.train()           # it has the loss in training only


def through(scale, convolution):
    """The weights [2 dim, dim, factor] and biases of the convolutions of keys and of values."""
    weight, bias = convolution.weight.detach(), convolution.bias.detach()
    keys = scale[:, None, None] * weight / scale[None, :, None]
    values = weight.roll((ROLL, ROLL), dims=(0, 1))
    return torch.cat((keys, values)), torch.cat((scale * bias, bias.roll(ROLL)))


def write(folder, seed=SEED, batch=3, width=8, dim=6, factor=4):
    torch.manual_seed(seed)
    scale = torch.randn(dim).exp()
    attention = build(width, factor, scale)
    convolution = attention.compress_mem_fn.conv
    memory, x = torch.randn(batch, width, dim), torch.randn(batch, width, dim)
    *_, loss = attention(x, memories=(memory, None))
    loss.backward()
    weight, bias = through(scale, convolution)
    reference.save_tensors(folder / "reconstruction.safetensors", {
        "scale": scale, "queries": attention.to_q(x), "window": attention.to_kv(memory), "weight": weight, "bias": bias,
        "loss": loss.reshape(1), "grad.weight": convolution.weight.grad, "grad.bias": convolution.bias.grad})
