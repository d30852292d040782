"""reconstruction/: the attention-reconstruction loss of compressive-transformer-pytorch, which the package has not.

Its memory holds hidden vectors m, which one matrix turns into keys and values after they were compressed; ours holds keys
and values, compressed by convolutions of their own. With keys s * m (number by number) and values m rolled by one place
either does the same: our convolutions are theirs seen through the two maps. One head."""
import torch
from compressive_transformer_pytorch.compressive_transformer_pytorch import SelfAttention

import reference

SEED = 31
BATCH, WIDTH, DIM, FACTOR = 3, 8, 6, 4
ROLL = 1


def build(scale):
    attention = SelfAttention(DIM, seq_len=WIDTH, mem_len=WIDTH, cmem_len=WIDTH // FACTOR, cmem_ratio=FACTOR, heads=1)
    with torch.no_grad():
        attention.to_kv.weight.copy_(torch.cat((torch.diag(scale), torch.eye(DIM).roll(ROLL, dims=0))))
        attention.to_q.weight.mul_(4)  # attention far from uniform
    return attention.train()           # it has the loss in training only


def through(scale, convolution):
    """The weights [2 DIM, DIM, FACTOR] and biases of the convolutions of keys and of values."""
    weight, bias = convolution.weight.detach(), convolution.bias.detach()
    keys = scale[:, None, None] * weight / scale[None, :, None]
    values = weight.roll((ROLL, ROLL), dims=(0, 1))
    return torch.cat((keys, values)), torch.cat((scale * bias, bias.roll(ROLL)))


def write(folder):
    torch.manual_seed(SEED)
    scale = torch.randn(DIM).exp()
    attention = build(scale)
    convolution = attention.compress_mem_fn.conv
    memory, x = torch.randn(BATCH, WIDTH, DIM), torch.randn(BATCH, WIDTH, DIM)
    *_, loss = attention(x, memories=(memory, None))
    loss.backward()
    weight, bias = through(scale, convolution)
    reference.save_tensors(folder / "reconstruction.safetensors", {
        "scale": scale, "queries": attention.to_q(x), "window": attention.to_kv(memory), "weight": weight, "bias": bias,
        "loss": loss.reshape(1), "grad.weight": convolution.weight.grad, "grad.bias": convolution.bias.grad})
