"""The original package, run the way `brt trace` runs: used by make_golden.py and by ../parity/parity.py."""
import inspect
import json
from pathlib import Path

import numpy as np
import torch
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer
from safetensors.numpy import load_file, save_file

# One thread: sums are then added in the same order on every run.
torch.set_num_threads(1)

# Parameters that start at (or near) a constant. A port that swaps or forgets one of them would go unnoticed.
CONSTANT_AT_START = ("gamma", "q_scale", "k_scale", "learned_ema_beta", "init_state", "state_out_to_gate.bias")
SPREAD = 0.3
# Normalised queries and keys give scores within 1/sqrt(dim_head), almost uniform attention. These gains stretch the
# scores to about +-3, so that the attention weights, and errors in them, matter.
SHARPENED = ("q_scale", "k_scale")
SCORE_RANGE = 3.0
# The states change little at first and so hardly reach the loss; with a louder update their gradients are well above
# rounding.
LOUDER = ("to_state_out.weight",)
LOUDNESS = 3.0


# ---- building

def keyword_arguments(arguments):
    """Constructor arguments as Python wants them: JSON has lists, the package accepts only tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def known_arguments(arguments):
    """Those that the package has; brt has more, whose defaults are what the package does."""
    known = inspect.signature(BlockRecurrentTransformer.__init__).parameters
    return {name: value for name, value in arguments.items() if name in known}


def build(arguments):
    return BlockRecurrentTransformer(**keyword_arguments(arguments))


def perturb(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(CONSTANT_AT_START):
                parameter.add_(SPREAD * torch.randn_like(parameter))
            if name.endswith(SHARPENED):
                dim_head = parameter.numel()
                parameter.mul_((SCORE_RANGE * dim_head ** 0.5) ** 0.5)
            if name.endswith(LOUDER):
                parameter.mul_(LOUDNESS)


def build_perturbed(arguments, seed):
    torch.manual_seed(seed)
    model = build(arguments)
    perturb(model)
    return model.eval()


def refusal(arguments):
    """(where, message) if the package refuses these arguments at construction or at a first forward, else None."""
    stage = "construction"
    try:
        model = build(arguments)
        stage = "first forward"
        with torch.no_grad():
            model(torch.zeros(1, model.block_width, dtype=torch.long), return_memories_and_states=True)
    except Exception as error:  # the package has no exception class of its own: asserts, torch and beartype errors
        lines = str(error).splitlines() or [""]
        return stage, f"{type(error).__name__}: {lines[0]}"
    return None


# ---- enhanced recurrence

def shift_down(memories):
    """By layer as they were written -> as they are read: a layer reads the next one's, the last the first one's."""
    return [*memories[1:], *memories[:1]]


def shift_up(memories):
    return [*memories[-1:], *memories[:-1]]


def enhance_recurrence(model):
    """What the package had up to release 0.3.0. The memories that it takes and gives are then as they are read."""
    update = model.mem_manager.forward
    model.mem_manager.forward = lambda past, new: shift_down(update(shift_up(past), new))
    model.as_written = shift_up


# ---- chained calls

def segments(tokens, width, targets):
    """Split [batch, time] into calls of at most `width` inputs. With targets = 1 a piece ends with the target of its
    last input, which is also the first input of the next piece."""
    inputs = tokens.shape[1] - targets
    return [tokens[:, start:start + width + targets] for start in range(0, inputs, width)]


def carried(model, call, memories, states):
    memories = getattr(model, "as_written", list)(memories)
    tensors = {f"memories.{call}.{layer}": memory for layer, memory in enumerate(memories)}
    tensors.update({f"states.{call}.{index}": state for index, state in enumerate(states)})
    return tensors


def trace_forward(model, calls):
    """Logits of every call; memories and states after each call that ends with a full block."""
    result, memories, states = {}, [], []
    with torch.no_grad():
        for call, tokens in enumerate(calls):
            logits = []
            for piece in segments(tokens, model.max_seq_len, targets=0):
                piece_logits, memories, states = model(
                    piece, xl_memories=memories, states=states, return_memories_and_states=True)
                logits.append(piece_logits)
            result[f"logits.{call}"] = torch.cat(logits, dim=1)
            if tokens.shape[1] % model.block_width == 0:
                result.update(carried(model, call, memories, states))
    return result


class LogitsRecorder:
    """With return_loss the package keeps its logits to itself; this collects them as they leave the last layer."""

    def __init__(self, model):
        self.hook = model.to_logits.register_forward_hook(lambda module, inputs, output: self.pieces.append(output))
        self.pieces = []

    def take(self):
        logits, self.pieces = torch.cat(self.pieces, dim=1).detach(), []
        return logits

    def close(self):
        self.hook.remove()


def counted_targets(model, piece):
    return int((piece[:, 1:] != model.ignore_index).sum())


def trace_loss(model, calls, with_gradient):
    """Like trace_forward for calls whose last token is only a target, with the loss of each call and, if asked, the
    gradient of the sum of these losses. The package detaches what it carries from one piece to the next."""
    result, memories, states, total = {}, [], [], 0.0
    recorder = LogitsRecorder(model)
    model.zero_grad(set_to_none=True)
    for call, tokens in enumerate(calls):
        loss = 0.0
        for piece in segments(tokens, model.max_seq_len, targets=1):
            piece_loss, memories, states = model(
                piece, return_loss=True, xl_memories=memories, states=states, return_memories_and_states=True)
            share = counted_targets(model, piece) / counted_targets(model, tokens)
            if share > 0:  # a piece whose targets are all ignored has the loss NaN, and no weight
                loss = loss + share * piece_loss
        result[f"loss.{call}"] = loss.detach().reshape(1)
        result[f"logits.{call}"] = recorder.take()
        if (tokens.shape[1] - 1) % model.block_width == 0:
            result.update(carried(model, call, memories, states))
        total = total + loss
    recorder.close()
    if with_gradient:
        total.backward()
        result.update(gradients(model))
    return result


def gradients(model):
    """grad.NAME of every parameter; zeros where the loss does not depend on it."""
    return {f"grad.{name}": torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in model.named_parameters()}


# ---- files

def to_numpy(tensors):
    return {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in tensors.items()}


def save_tensors(path, tensors):
    save_file(to_numpy(tensors), str(path), metadata={"format": "pt"})


def load_arrays(path):
    return load_file(str(path))


def save_tokens(path, calls):
    save_tensors(path, {f"tokens.{call}": tokens for call, tokens in enumerate(calls)})


def stored_state(model, keep_beta, prefix=""):
    """state_dict(), with or without the constant-zero `beta` buffers that stand beside every `gamma`."""
    return {prefix + name: tensor for name, tensor in model.state_dict().items()
            if keep_beta or not name.endswith(".beta")}


def save_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
