#!/usr/bin/env python3
"""Write early_dynamic_heads/ from release 0.0.18 of the original package: the last one with a position bias made by an
MLP of the distance, several heads of keys and values, a window of exact width and a scale of normalised logits that is
applied. README.md says what is in it.

Run with the Python of setup_reference.sh, whose folder `early` has that release."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.prefix) / "early"))

import torch

import reference
from cases import Case
from make_golden import seed_of, write_model

# Without recurrent layers: that release made the state's keys from the initial state, whatever the state was. The first
# calls have one block: without memories it hid the block before from every block of a call.
CASE = Case("early_dynamic_heads",
            dict(num_tokens=23, dim=24, depth=3, dim_head=8, heads=4, max_seq_len=18, block_width=6),
            forward=(6, 18, 12), loss=(6, 18))
# What brt calls what that release does with single_head_kv=False and recurrent_layers=().
BRT_ARGUMENTS = dict(kv_heads=4, recurrent_layers=[], all_layers_qk_rmsnorm=True, qk_logit_scale=8,
                     position_encoding="dynamic", window="exact")
LOGIT_SCALE = 8


def build():
    torch.manual_seed(seed_of(CASE))
    model = reference.build(dict(CASE.arguments, single_head_kv=False, recurrent_layers=[]))
    reference.perturb(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(reference.SHARPENED):  # perturb() counts on logits times dim_head ** -0.5
                parameter.mul_((LOGIT_SCALE * parameter.numel() ** 0.5) ** -0.5)
    return model.eval()


def merge_heads(tensors):
    """Memories [2, batch, heads, keys, dim_head] as brt has them, [2, batch, keys, heads * dim_head]."""
    return {name: tensor.transpose(2, 3).flatten(3) if name.startswith("memories.") else tensor
            for name, tensor in tensors.items()}


if __name__ == "__main__":
    write_model(CASE, build(), CASE.arguments | BRT_ARGUMENTS, merge_heads)
