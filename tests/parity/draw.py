"""Random model configurations and token lengths for parity.py, all from one random.Random."""
import math
from dataclasses import dataclass

SHARE_REJECTED = 0.12
MAX_BLOCKS_PER_SEGMENT = 4
MAX_CALLS = 4


@dataclass(frozen=True)
class Draw:
    arguments: dict      # as config.json holds them
    weights_of: dict     # arguments of the model that fills model.safetensors; others only if the package refuses
    batch: int
    inputs: tuple        # inputs of each call; with a loss every call has one more token
    loss: bool
    gradient: bool
    token_type: str
    keep_beta: bool
    prefix: str


def draw_valid(rng, compressed_memory):
    """Arguments that the package accepts; about a third of the optional ones are left to their defaults."""
    arguments = draw_sizes(rng)
    arguments.update(draw_recurrence(rng, arguments["depth"]))
    arguments.update(draw_options(rng, arguments, compressed_memory))
    return arguments


def draw_sizes(rng):
    block_width = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16))
    return dict(
        num_tokens=rng.randint(2, 60),
        dim=rng.randint(5, 40),
        depth=rng.randint(1, 6),
        heads=rng.randint(1, 6),
        dim_head=2 * rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 32)),
        block_width=block_width,
        max_seq_len=block_width * rng.randint(1, MAX_BLOCKS_PER_SEGMENT))


def draw_recurrence(rng, depth):
    """Write layers in any order, none to all of them; read layers left out, or each at or before its write layer."""
    if depth > 1 and rng.random() < 0.2:
        default_write = depth // 2
        return rng.choice(({}, dict(read_recurrent_layers=[rng.randint(1, default_write)])))
    writes = rng.sample(range(1, depth + 1), rng.randint(0 if rng.random() < 0.3 else 1, min(depth, 3)))
    chosen = dict(recurrent_layers=writes)
    if rng.random() < 0.3 and writes:  # all states meet in one layer
        chosen["read_recurrent_layers"] = [rng.randint(1, min(writes))] * len(writes)
    elif rng.random() < 0.5:
        chosen["read_recurrent_layers"] = [rng.randint(1, write) for write in writes]
    return chosen


def draw_options(rng, arguments, compressed_memory):
    vocabulary = arguments["num_tokens"]
    token = rng.randrange(vocabulary)
    options = dict(
        # with no value given there are as many vectors as a block is wide
        num_state_vectors=rng.choice((None, rng.randint(1, 20))),
        ff_mult=rng.choice((1, 2, 3, 4, 0.75, 1.5, 2.5, 3.3)),
        all_layers_qk_rmsnorm=rng.random() < 0.5,
        ignore_index=rng.choice((-100, -1, vocabulary + 5, token, token, token)),
        use_compressed_mem=rng.random() < 0.4 and arguments["block_width"] > 1 and compressed_memory,
        compressed_mem_factor=rng.randint(1, 6))
    return {name: value for name, value in options.items() if rng.random() < 0.65}


# ---- configurations the package refuses

def break_arguments(rng, arguments):
    """A change that makes valid arguments invalid."""
    broken = dict(arguments)
    rng.choice((break_segment, break_write_layer, break_read_layer, break_sizes))(rng, broken)
    return broken


def break_segment(rng, broken):
    width = broken["block_width"]
    if rng.random() < 0.3 or width == 1:
        broken["max_seq_len"] = rng.choice((0, -width))
    else:
        broken["max_seq_len"] += rng.randint(1, width - 1)


def break_write_layer(rng, broken):
    depth = broken["depth"]
    layer = rng.randint(1, depth)
    broken.pop("read_recurrent_layers", None)
    broken["recurrent_layers"] = rng.choice(([0], [depth + 1], [-1], [layer, layer]))


def break_read_layer(rng, broken):
    depth = broken["depth"]
    broken["depth"] = depth + 1
    broken["recurrent_layers"] = [depth]
    broken["read_recurrent_layers"] = rng.choice(([0], [depth + 1], [], [depth, depth], [-1]))


def break_sizes(rng, broken):
    name, values = rng.choice((
        ("dim_head", (1, broken["dim_head"] + 1, 0)),
        ("heads", (0, -1)),
        ("block_width", (0, -4)),
        ("num_state_vectors", (0, -3)),
        ("dim", (-2, 7.5)),
        ("depth", (0, -1)),
        ("num_tokens", (-1,)),
        ("ff_mult", (-2,))))
    broken[name] = rng.choice(values)
    if name == "num_state_vectors":  # nobody counts state vectors where no layer has them
        broken["recurrent_layers"] = [broken["depth"]]
        broken.pop("read_recurrent_layers", None)


# ---- calls

def draw_inputs(rng, width, max_seq_len):
    """Whole blocks, at times more than a segment; the last call may end inside a block."""
    most_blocks = math.ceil(2.5 * max_seq_len / width)
    inputs = [width * rng.randint(1, most_blocks if rng.random() < 0.3 else max_seq_len // width)
              for _ in range(rng.randint(1, MAX_CALLS))]
    if width > 1 and rng.random() < 0.4:
        inputs[-1] -= rng.randint(1, width - 1)
    return tuple(inputs)


def draw(rng, compressed_memory):
    valid = draw_valid(rng, compressed_memory)
    broken = rng.random() < SHARE_REJECTED
    loss = rng.random() < 0.6
    return Draw(
        arguments=break_arguments(rng, valid) if broken else valid,
        weights_of=valid,
        batch=rng.randint(1, 4),
        inputs=draw_inputs(rng, valid["block_width"], valid["max_seq_len"]),
        loss=loss,
        gradient=loss and rng.random() < 0.8,
        token_type=rng.choice(("int64", "int64", "int32")),
        keep_beta=rng.random() < 0.5,
        prefix=rng.choice(("", "", "transformer.")))
