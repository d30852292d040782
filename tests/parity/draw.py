"""Random model configurations and token lengths for parity.py, all from one random.Random."""
import math
from dataclasses import dataclass

SHARE_REJECTED = 0.12
MAX_BLOCKS_PER_SEGMENT = 4
MAX_CALLS = 6
COMPRESSION_BY_DEFAULT = 4  # compressed_mem_factor


@dataclass(frozen=True)
class Draw:
    arguments: dict      # as config.json holds them
    weights_of: dict     # arguments of the model that fills model.safetensors; others only if the package refuses
    batch: int
    inputs: tuple        # inputs of each call; with a loss every call has one more token
    loss: bool
    gradient: bool
    token_type: str
    weight_type: str
    keep_beta: bool
    prefix: str
    flash: bool          # config.json asks for flash attention, which the package has with PyTorch 2: the same
    trained: bool        # also train a model with these arguments and hand it to the package


def draw_valid(rng):
    """Arguments that the package accepts; about a third of the optional ones are left to their defaults."""
    arguments = draw_sizes(rng)
    arguments.update(draw_recurrence(rng, arguments["depth"]))
    arguments.update(draw_options(rng, arguments))
    arguments.update(draw_compression(rng, arguments["block_width"]))
    return arguments


def draw_sizes(rng):
    block_width = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 27, 64))
    return dict(
        num_tokens=rng.choice((1, rng.randint(2, 60), rng.randint(2, 60), rng.randint(2, 300))),
        dim=rng.randint(2, 40),
        depth=rng.randint(1, 6),
        heads=rng.randint(1, 6),
        dim_head=2 * rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 32, 33, 64)),
        block_width=block_width,
        max_seq_len=block_width * rng.randint(1, MAX_BLOCKS_PER_SEGMENT))


def draw_recurrence(rng, depth):
    """Write layers in any order, none to all of them; read layers left out, or each at or before its write layer."""
    if depth > 1 and rng.random() < 0.2:
        default_write = depth // 2
        return rng.choice(({}, dict(read_recurrent_layers=[rng.randint(1, default_write)])))
    writes = rng.sample(range(1, depth + 1), rng.randint(0 if rng.random() < 0.3 else 1, min(depth, 4)))
    chosen = dict(recurrent_layers=writes)
    if rng.random() < 0.3 and writes:  # all states meet in one layer
        chosen["read_recurrent_layers"] = [rng.randint(1, min(writes))] * len(writes)
    elif rng.random() < 0.5:
        chosen["read_recurrent_layers"] = [rng.randint(1, write) for write in writes]
    return chosen


def draw_options(rng, arguments):
    vocabulary = arguments["num_tokens"]
    # ignoring the only token of a vocabulary would leave no loss
    token = rng.randrange(vocabulary) if vocabulary > 1 else -100
    options = dict(
        # with no value given there are as many vectors as a block is wide
        num_state_vectors=rng.choice((None, 1, rng.randint(2, 20), arguments["max_seq_len"] + rng.randint(1, 9))),
        ff_mult=rng.choice((1, 2, 3, 4, 0.75, 1.5, 2.5, 3.3)),
        all_layers_qk_rmsnorm=rng.random() < 0.5,
        ignore_index=rng.choice((-100, -1, vocabulary + 5, token, token, token)))
    return {name: value for name, value in options.items() if rng.random() < 0.65}


def draw_compression(rng, block_width):
    """A compressed memory to which each block leaves something, or none."""
    if block_width == 1 or rng.random() < 0.6:
        return rng.choice(({}, {}, dict(use_compressed_mem=False), dict(compressed_mem_factor=rng.randint(1, 6))))
    if block_width >= COMPRESSION_BY_DEFAULT and rng.random() < 0.3:
        return dict(use_compressed_mem=True)
    factor = rng.choice((rng.randint(1, min(6, block_width)), rng.randint(1, block_width)))
    return dict(use_compressed_mem=True, compressed_mem_factor=factor)


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


def draw(rng):
    valid = draw_valid(rng)
    broken = rng.random() < SHARE_REJECTED
    loss = rng.random() < 0.6
    return Draw(
        arguments=break_arguments(rng, valid) if broken else valid,
        weights_of=valid,
        batch=rng.randint(1, 5),
        inputs=draw_inputs(rng, valid["block_width"], valid["max_seq_len"]),
        loss=loss,
        gradient=loss and rng.random() < 0.8,
        token_type=rng.choice(("int64", "int64", "int32")),
        weight_type=rng.choice(("float32", "float32", "float32", "float32", "float16", "float64")),
        keep_beta=rng.random() < 0.5,
        prefix=rng.choice(("", "", "transformer.")),
        flash=rng.random() < 0.2,
        trained=not broken and rng.random() < 0.4)


# ---- what many draws together must have had

def recurrence(arguments):
    """(write layer, read layer) of every state."""
    writes = arguments.get("recurrent_layers", [arguments["depth"] // 2])
    return list(zip(writes, arguments.get("read_recurrent_layers", writes)))


def reads_together(arguments):
    """The pairs of states that are read in one layer."""
    states = recurrence(arguments)
    return [(one, other) for one in states for other in states if one[1] == other[1] and one[0] < other[0]]


def compression(arguments):
    """The factor of a compressed memory, or None without one."""
    if not arguments.get("use_compressed_mem"):
        return None
    return arguments.get("compressed_mem_factor", COMPRESSION_BY_DEFAULT)


def value(name, test):
    """Whether an argument that is given passes the test."""
    return lambda case: case.arguments.get(name) is not None and test(case.arguments[name], case.arguments)


FEATURES = {
    "no recurrent layer": lambda case: not recurrence(case.arguments),
    "the default recurrent layer": lambda case: "recurrent_layers" not in case.arguments,
    "the first layer is recurrent": lambda case: 1 in dict(recurrence(case.arguments)),
    "the last layer is recurrent": lambda case: case.arguments["depth"] in dict(recurrence(case.arguments)),
    "several recurrent layers": lambda case: len(recurrence(case.arguments)) > 1,
    "recurrent layers out of order": value("recurrent_layers", lambda layers, _: layers != sorted(layers)),
    "a state is read earlier than written": lambda case: any(w > r for w, r in recurrence(case.arguments)),
    "two states are read in one layer": lambda case: reads_together(case.arguments),
    "... and one is written between": lambda case: any(
        one[1] < one[0] < other[0] for one, other in reads_together(case.arguments)),
    "... which also writes one of them": lambda case: any(
        one[1] == one[0] for one, other in reads_together(case.arguments)),
    "all layers normalise": value("all_layers_qk_rmsnorm", lambda on, _: on),
    "1 state vector": value("num_state_vectors", lambda n, _: n == 1),
    "an odd number of state vectors": value("num_state_vectors", lambda n, _: n > 1 and n % 2 == 1),
    "more state vectors than a segment has tokens": value("num_state_vectors", lambda n, a: n > a["max_seq_len"]),
    "depth 1": value("depth", lambda depth, _: depth == 1),
    "1 head": value("heads", lambda heads, _: heads == 1),
    "a head of 2": value("dim_head", lambda size, _: size == 2),
    "a head of 128": value("dim_head", lambda size, _: size == 128),
    "half a head is odd": value("dim_head", lambda size, _: size > 2 and size % 4 == 2),
    "an odd dim": value("dim", lambda dim, _: dim % 2 == 1),
    "a fraction as ff_mult": value("ff_mult", lambda mult, _: mult != int(mult)),
    "blocks of 1": value("block_width", lambda width, _: width == 1),
    "blocks of 64": value("block_width", lambda width, _: width == 64),
    "one block in a segment": value("max_seq_len", lambda length, a: length == a["block_width"]),
    "a vocabulary of 1": value("num_tokens", lambda n, _: n == 1),
    "an odd vocabulary": value("num_tokens", lambda n, _: n > 1 and n % 2 == 1),
    "an ignored token of the vocabulary": value("ignore_index", lambda token, a: 0 <= token < a["num_tokens"]),
    "another ignore_index than -100": value("ignore_index", lambda token, a: not -100 <= token < a["num_tokens"]),
    "compressed memory": lambda case: compression(case.arguments),
    "... without compression": lambda case: compression(case.arguments) == 1,
    "... of which the oldest tokens of a block are left out": lambda case:
        case.arguments["block_width"] % (compression(case.arguments) or 1) != 0,
    "... to which a block leaves one entry": lambda case:
        case.arguments["block_width"] // 2 < (compression(case.arguments) or 0),
    "1 row": lambda case: case.batch == 1,
    "5 rows": lambda case: case.batch == 5,
    "1 call": lambda case: len(case.inputs) == 1,
    "6 calls": lambda case: len(case.inputs) == MAX_CALLS,
    "a call shorter than a block": lambda case: case.inputs[-1] < case.arguments["block_width"],
    "a call that ends inside a block": lambda case: case.inputs[-1] % case.arguments["block_width"] != 0,
    "a call longer than a segment": lambda case: max(case.inputs) > case.arguments["max_seq_len"],
    "logits without a loss": lambda case: not case.loss,
    "gradients": lambda case: case.gradient,
    "flash attention": lambda case: case.flash,
    "weights of 16 bits": lambda case: case.weight_type == "float16",
    "weights of 64 bits": lambda case: case.weight_type == "float64",
    "a trainer's checkpoint": lambda case: case.prefix,
    "a model trained by brt": lambda case: case.trained,
}
