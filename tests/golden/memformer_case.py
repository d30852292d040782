"""memformer/: how memory slots of memformer hear a text: each itself and the whole text, in one softmax.

What it makes of that (a GRU and a feed-forward, where brt has the gate of its states) and its encoder are left out. brt
normalises queries and keys and has none of the biases: slots and text are made so that their projections have length 1,
and the one head is as wide as the model."""
import torch
from memformer.memformer import Memformer

import reference

SEED = 47


def draw(rng):
    return dict(batch=rng.randint(1, 3), slots=rng.randint(1, 9), time=rng.randint(1, 20), dim=2 * rng.randint(2, 8),
                sharpness=rng.uniform(1, 12))


class Fixed(torch.nn.Module):
    """Returns the same whatever it is given."""
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, *_, **__):
        return self.value


class First(torch.nn.Module):
    """In the place of the GRU: what was heard, as it is."""
    def forward(self, heard, _):
        return heard


def orthogonal(dim):
    return torch.linalg.qr(torch.randn(dim, dim, dtype=torch.double))[0]


def build(dim, slots, text, length, sharpness):
    model = Memformer(dim=dim, num_memory_slots=slots, encoder_only=True, mem_update_attn_heads=1, enc_num_tokens=2,
                      enc_max_seq_len=2, enc_depth=1, enc_heads=1)
    model.encoder, model.gru, model.mem_ff = Fixed(text), First(), torch.nn.Identity()
    attention = model.mem_updater.double()
    with torch.no_grad():
        attention.to_q.weight.copy_(sharpness * orthogonal(dim) / length)
        attention.to_kv.weight[:dim].copy_(orthogonal(dim) / length)
        attention.to_q.bias.zero_()
        attention.to_kv.bias.zero_()
    return model


def write(folder, seed=SEED, batch=2, slots=5, time=7, dim=8, sharpness=6.0):
    torch.manual_seed(seed)
    state = torch.randn(batch, slots, dim, dtype=torch.double)
    state = torch.nn.functional.normalize(state - state.mean(dim=-1, keepdim=True), dim=-1)
    normalised = torch.nn.functional.layer_norm(state, (dim,))
    length = normalised.norm(dim=-1).mean()
    text = length * torch.nn.functional.normalize(torch.randn(batch, time, dim, dtype=torch.double), dim=-1)
    model = build(dim, slots, text, length, sharpness)
    attention = model.mem_updater
    heard = model(torch.zeros(batch, time, dtype=torch.long), mems=normalised).mem
    tensors = {"state": state, "text": attention.to_kv(text), "q_from_state.weight": attention.to_q.weight,
               "state_to_kv.weight": attention.to_kv.weight, "to_state_out.weight": attention.to_out.weight,
               "state_out_to_gate.bias": attention.to_out.bias, "sharpness": torch.full((dim,), sharpness),
               "heard": heard}
    reference.save_tensors(folder / "memformer.safetensors", {name: t.float() for name, t in tensors.items()})
