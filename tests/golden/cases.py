"""The table of models and token lengths behind the folders with forward.safetensors and loss.safetensors."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str
    arguments: dict        # constructor arguments; whatever is left out keeps the package's default
    forward: tuple         # inputs of each chained call of forward.safetensors
    loss: tuple            # inputs of each chained call of loss.safetensors (one more token is the last target)
    batch: int = 2
    keep_beta: bool = False      # keep the zero `beta` buffers in model.safetensors
    from_trainer: bool = False   # saved from RecurrentTrainerWrapper: names start with `transformer.`
    token_type: str = "int64"
    enhanced_recurrence: bool = False   # made of the package, which has it no more, by reference.enhance_recurrence


CASES = (
    # heads, dim_head, ff_mult, recurrent_layers, num_state_vectors and ignore_index are the package's defaults
    Case("default_like",
         dict(num_tokens=29, dim=16, depth=4, max_seq_len=16, block_width=8),
         forward=(16, 8, 16), loss=(16, 16, 5), keep_beta=True),
    Case("two_recurrent",
         dict(num_tokens=23, dim=24, depth=4, dim_head=8, heads=3, max_seq_len=12, block_width=4,
              recurrent_layers=[2, 4], num_state_vectors=5),
         forward=(12, 12, 4), loss=(12, 8, 12)),
    # not sorted: the state of layer 5 and the state of layer 3 are both read in layer 2
    Case("read_earlier_two_writers_one_reader",
         dict(num_tokens=19, dim=16, depth=6, dim_head=8, heads=2, max_seq_len=16, block_width=8,
              recurrent_layers=[5, 3], read_recurrent_layers=[2, 2], num_state_vectors=6),
         forward=(16, 16, 8), loss=(16, 8, 16), keep_beta=True),
    Case("recurrent_first_and_last",
         dict(num_tokens=31, dim=20, depth=3, dim_head=10, heads=2, max_seq_len=12, block_width=6,
              recurrent_layers=[1, 3], num_state_vectors=6),
         forward=(12, 6, 12), loss=(12, 12, 7)),
    Case("all_qk_rmsnorm",
         dict(num_tokens=27, dim=24, depth=3, dim_head=8, heads=4, max_seq_len=16, block_width=8,
              all_layers_qk_rmsnorm=True, recurrent_layers=[2], num_state_vectors=8),
         forward=(16, 16), loss=(16, 16), keep_beta=True, from_trainer=True),
    Case("states_not_block_width",
         dict(num_tokens=17, dim=16, depth=2, dim_head=8, heads=2, max_seq_len=8, block_width=4,
              num_state_vectors=13),
         forward=(8, 8, 4), loss=(8, 8, 4)),
    Case("one_head",
         dict(num_tokens=33, dim=16, depth=2, dim_head=16, heads=1, max_seq_len=16, block_width=8,
              num_state_vectors=8),
         forward=(16, 16), loss=(16, 13), keep_beta=True),
    Case("dim_head_32",
         dict(num_tokens=60, dim=32, depth=2, dim_head=32, heads=2, max_seq_len=32, block_width=16,
              num_state_vectors=16),
         forward=(32, 32, 16), loss=(32, 16)),
    Case("dim_head_128",
         dict(num_tokens=11, dim=16, depth=2, dim_head=128, heads=2, max_seq_len=16, block_width=8,
              num_state_vectors=8),
         forward=(16, 16), loss=(16, 16)),
    Case("batch_3",
         dict(num_tokens=37, dim=48, depth=2, dim_head=12, heads=3, max_seq_len=16, block_width=8,
              num_state_vectors=4),
         forward=(16, 8), loss=(16, 16), batch=3, keep_beta=True, token_type="int32"),
    # the last calls end inside a block: 8 + 8 + 3 and less than one block
    Case("last_block_short",
         dict(num_tokens=21, dim=16, depth=3, dim_head=8, heads=2, max_seq_len=24, block_width=8,
              recurrent_layers=[2], num_state_vectors=8),
         forward=(24, 8, 19), loss=(16, 24, 5)),
    Case("five_calls",
         dict(num_tokens=13, dim=16, depth=2, dim_head=8, heads=2, max_seq_len=12, block_width=4,
              num_state_vectors=4),
         forward=(12, 4, 8, 12, 12), loss=(4, 12, 8, 12, 1), batch=1, keep_beta=True),
    Case("no_recurrence",
         dict(num_tokens=25, dim=16, depth=2, dim_head=8, heads=3, max_seq_len=16, block_width=8,
              recurrent_layers=[]),
         forward=(16, 16, 6), loss=(16, 16)),
    Case("ignore_index",
         dict(num_tokens=11, dim=16, depth=2, dim_head=8, heads=2, max_seq_len=16, block_width=8,
              num_state_vectors=8, ignore_index=3),
         forward=(16, 8), loss=(16, 8, 16), batch=3, keep_beta=True),
    Case("odd_sizes",
         dict(num_tokens=11, dim=19, depth=3, dim_head=6, heads=3, ff_mult=2.5, max_seq_len=15, block_width=5,
              recurrent_layers=[2], num_state_vectors=7),
         forward=(15, 10, 12), loss=(15, 10, 3)),
    # enough blocks to fill the compressed queue and to push its oldest entries out
    Case("compressed_memory",
         dict(num_tokens=15, dim=16, depth=2, dim_head=8, heads=2, max_seq_len=16, block_width=8,
              num_state_vectors=6, use_compressed_mem=True),
         forward=(16, 16, 8, 16), loss=(16, 16, 16), keep_beta=True),
    # a factor that does not divide the block width: the oldest tokens of a block are dropped
    Case("compressed_memory_odd",
         dict(num_tokens=14, dim=16, depth=2, dim_head=6, heads=2, max_seq_len=15, block_width=5,
              num_state_vectors=5, use_compressed_mem=True, compressed_mem_factor=3),
         forward=(15, 15, 10), loss=(15, 15, 4)),
    Case("enhanced_recurrence",
         dict(num_tokens=18, dim=16, depth=4, dim_head=8, heads=2, max_seq_len=24, block_width=6,
              recurrent_layers=[3], read_recurrent_layers=[2], num_state_vectors=5, use_compressed_mem=True,
              compressed_mem_factor=3),
         forward=(24, 12, 24), loss=(24, 24, 9), enhanced_recurrence=True),
)
