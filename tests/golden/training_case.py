"""training/: the training loop of the package's repository (train.py), made small and repeatable."""
import torch
from block_recurrent_transformer_pytorch import RecurrentTrainerWrapper

import reference

SEED = 20
ARGUMENTS = dict(num_tokens=16, dim=24, depth=3, dim_head=8, heads=2, max_seq_len=16, block_width=4,
                 recurrent_layers=[2], num_state_vectors=5)
TRAINING = dict(optimizer="adam", learning_rate=2e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0,
                clip_norm=0.5, steps=20, accumulate=2, batch=2, segments=2,
                xl_memories_dropout=0.0, state_dropout=0.0)
NOISE = 0.1  # share of tokens that do not follow the rule below


def learnable_tokens(batch, length, vocabulary, successor):
    """Every token has one usual successor, so that the loss can fall within a few steps."""
    tokens = torch.randint(0, vocabulary, (batch, length))
    surprise = torch.rand(batch, length) < NOISE
    for position in range(1, length):
        usual = successor[tokens[:, position - 1]]
        tokens[:, position] = torch.where(surprise[:, position], tokens[:, position], usual)
    return tokens


def draw_batches():
    successor = torch.randperm(ARGUMENTS["num_tokens"])
    length = TRAINING["segments"] * ARGUMENTS["max_seq_len"] + 1
    return [[learnable_tokens(TRAINING["batch"], length, ARGUMENTS["num_tokens"], successor)
             for _ in range(TRAINING["accumulate"])] for _ in range(TRAINING["steps"])]


def train(model, batches):
    """Losses [steps, accumulate] before the division, and the norm of each step's gradient before it is clipped."""
    wrapper = RecurrentTrainerWrapper(model, xl_memories_dropout=TRAINING["xl_memories_dropout"],
                                      state_dropout=TRAINING["state_dropout"])
    optimizer = torch.optim.Adam(model.parameters(), lr=TRAINING["learning_rate"], eps=TRAINING["epsilon"],
                                 betas=(TRAINING["beta1"], TRAINING["beta2"]), weight_decay=TRAINING["weight_decay"])
    losses, norms = [], []
    wrapper.train()
    for micro_batches in batches:
        step_losses = []
        for tokens in micro_batches:
            loss = wrapper(tokens)
            (loss / TRAINING["accumulate"]).backward()
            step_losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING["clip_norm"]).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(step_losses)
    return torch.tensor(losses), torch.tensor(norms)


def write(folder):
    model = reference.build_perturbed(ARGUMENTS, SEED)
    batches = draw_batches()
    reference.save_json(folder / "config.json", ARGUMENTS)
    reference.save_json(folder / "training.json", TRAINING)
    reference.save_tensors(folder / "model.safetensors", reference.stored_state(model, keep_beta=False))
    reference.save_tensors(folder / "tokens.safetensors", {
        f"tokens.{step}.{micro}": tokens
        for step, micro_batches in enumerate(batches) for micro, tokens in enumerate(micro_batches)})
    losses, norms = train(model, batches)
    assert losses[-1].mean() < 0.75 * losses[0].mean(), "the model did not learn: a poor test of training"
    expected = {f"final.{name}": parameter for name, parameter in model.named_parameters()}
    reference.save_tensors(folder / "expected.safetensors", {"loss": losses, "grad_norm": norms, **expected})
