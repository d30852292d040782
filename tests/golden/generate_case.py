"""generate/: greedy continuation, each token from a forward pass over everything before it.

The package's own generate() forgets memories and states that it should keep between segments unless the lengths fit, so
the prefix is fed here in segments from the start for every token: slow, but there is nothing in it to go wrong."""
import torch

import reference

SEED = 96
ARGUMENTS = dict(num_tokens=23, dim=16, depth=3, dim_head=8, heads=2, max_seq_len=12, block_width=4,
                 recurrent_layers=[2], num_state_vectors=5)
BATCH, PROMPT, NEW = 2, 6, 30   # 36 tokens: nine blocks, three segments; the prompt ends inside a block
CLEAR_MARGIN = 1e-2             # between best and second best logit, so that rounding cannot choose another token
MANY_TOKENS = 8                 # a continuation that repeats a few tokens proves little


def last_logits(model, tokens):
    traced = reference.trace_forward(model, [tokens])
    return traced["logits.0"][:, -1]


def continue_greedily(model, prompt):
    tokens, logits = prompt, []
    for _ in range(NEW):
        logits.append(last_logits(model, tokens))
        tokens = torch.cat((tokens, logits[-1].argmax(dim=-1, keepdim=True)), dim=-1)
    return tokens[:, PROMPT:], torch.stack(logits, dim=1)


def check_is_a_fair_test(tokens, logits):
    best, second = logits.topk(2, dim=-1).values.unbind(dim=-1)
    assert (best - second).min() > CLEAR_MARGIN, "two tokens are almost equally likely: take another seed"
    assert all(len(row.unique()) >= MANY_TOKENS for row in tokens), "the continuation is dull: take another seed"


def write(folder):
    model = reference.build_perturbed(ARGUMENTS, SEED)
    prompt = torch.randint(0, ARGUMENTS["num_tokens"], (BATCH, PROMPT))
    tokens, logits = continue_greedily(model, prompt)
    check_is_a_fair_test(tokens, logits)
    reference.save_json(folder / "config.json", ARGUMENTS)
    reference.save_tensors(folder / "model.safetensors", reference.stored_state(model, keep_beta=True))
    reference.save_tensors(folder / "prompt.safetensors", {"prompt": prompt})
    reference.save_tensors(folder / "expected.safetensors", {"tokens": tokens, "logits": logits})
