"""Unusual constructor arguments: which of them the package refuses and which it takes. write() asks the package."""
import torch

import reference

BASE = dict(num_tokens=17, dim=16, depth=4, dim_head=8, heads=2, max_seq_len=16, block_width=8)


def without(argument):
    return {name: value for name, value in BASE.items() if name != argument}


def changed(**arguments):
    return {**BASE, **arguments}


# (name, the argument at fault, arguments)
REJECTED = (
    ("block_width_does_not_divide_max_seq_len", "max_seq_len", changed(max_seq_len=20)),
    ("block_width_above_max_seq_len", "max_seq_len", changed(block_width=32)),
    ("max_seq_len_0", "max_seq_len", changed(max_seq_len=0)),
    ("max_seq_len_negative", "max_seq_len", changed(max_seq_len=-8)),
    ("block_width_0", "block_width", changed(block_width=0)),
    ("block_width_0_with_states", "block_width", changed(block_width=0, num_state_vectors=4)),
    ("block_width_negative", "block_width", changed(block_width=-8)),
    ("recurrent_layer_0", "recurrent_layers", changed(recurrent_layers=[0])),
    ("recurrent_layer_negative", "recurrent_layers", changed(recurrent_layers=[-1])),
    ("recurrent_layer_beyond_depth", "recurrent_layers", changed(recurrent_layers=[5])),
    ("one_recurrent_layer_of_two_beyond_depth", "recurrent_layers", changed(recurrent_layers=[2, 5])),
    ("duplicate_recurrent_layers", "recurrent_layers", changed(recurrent_layers=[2, 2])),
    ("duplicate_recurrent_layers_apart", "recurrent_layers", changed(recurrent_layers=[3, 1, 3])),
    ("default_recurrent_layer_of_depth_1", "recurrent_layers", changed(depth=1)),
    ("recurrent_layers_not_a_list", "recurrent_layers", changed(recurrent_layers=2)),
    ("recurrent_layers_not_integers", "recurrent_layers", changed(recurrent_layers=[2.5])),
    ("recurrent_layers_strings", "recurrent_layers", changed(recurrent_layers=["2"])),
    ("read_after_write", "read_recurrent_layers", changed(recurrent_layers=[2], read_recurrent_layers=[3])),
    ("read_after_write_pairs_follow_the_given_order", "read_recurrent_layers",
     changed(recurrent_layers=[3, 1], read_recurrent_layers=[1, 3])),
    ("read_layer_0", "read_recurrent_layers", changed(read_recurrent_layers=[0])),
    ("read_layer_negative", "read_recurrent_layers", changed(read_recurrent_layers=[-1])),
    ("fewer_reads_than_writes", "read_recurrent_layers",
     changed(recurrent_layers=[2, 3], read_recurrent_layers=[2])),
    ("more_reads_than_writes", "read_recurrent_layers",
     changed(recurrent_layers=[2], read_recurrent_layers=[2, 1])),
    ("read_without_write", "read_recurrent_layers", changed(recurrent_layers=[], read_recurrent_layers=[1])),
    ("writes_without_read", "read_recurrent_layers", changed(recurrent_layers=[2], read_recurrent_layers=[])),
    ("dim_head_odd", "dim_head", changed(dim_head=7)),
    ("dim_head_1", "dim_head", changed(dim_head=1)),
    ("dim_head_0", "dim_head", changed(dim_head=0)),
    ("dim_head_negative", "dim_head", changed(dim_head=-8)),
    ("num_state_vectors_0", "num_state_vectors", changed(num_state_vectors=0)),
    ("num_state_vectors_negative", "num_state_vectors", changed(num_state_vectors=-1)),
    ("heads_0", "heads", changed(heads=0)),
    ("heads_negative", "heads", changed(heads=-2)),
    ("heads_not_an_integer", "heads", changed(heads=1.5)),
    ("heads_null", "heads", changed(heads=None)),
    ("depth_0", "depth", changed(depth=0, recurrent_layers=[])),
    ("depth_negative", "depth", changed(depth=-1, recurrent_layers=[])),
    ("depth_not_an_integer", "depth", changed(depth=2.5)),
    ("dim_negative", "dim", changed(dim=-16)),
    ("dim_not_an_integer", "dim", changed(dim=16.5)),
    ("dim_a_string", "dim", changed(dim="16")),
    ("num_tokens_0", "num_tokens", changed(num_tokens=0)),
    ("num_tokens_negative", "num_tokens", changed(num_tokens=-1)),
    ("ff_mult_negative", "ff_mult", changed(ff_mult=-1)),
    ("ff_mult_a_string", "ff_mult", changed(ff_mult="4")),
    ("ff_mult_null", "ff_mult", changed(ff_mult=None)),
    ("compressed_memory_of_block_width_1", "block_width", changed(block_width=1, use_compressed_mem=True)),
    ("compressed_mem_factor_not_an_integer", "compressed_mem_factor",
     changed(use_compressed_mem=True, compressed_mem_factor=2.5)),
    ("num_tokens_missing", "num_tokens", without("num_tokens")),
    ("dim_missing", "dim", without("dim")),
    ("depth_missing", "depth", without("depth")),
    ("unknown_argument", "qk_rmsnorm_scale", changed(qk_rmsnorm_scale=8)),
)

# (name, arguments)
ACCEPTED = (
    ("block_width_1", changed(block_width=1)),
    ("block_width_1_max_seq_len_1", changed(block_width=1, max_seq_len=1)),
    ("max_seq_len_equals_block_width", changed(max_seq_len=8)),
    ("max_seq_len_many_blocks", changed(max_seq_len=64)),
    ("depth_1", changed(depth=1, recurrent_layers=[1])),
    ("depth_1_without_recurrence", changed(depth=1, recurrent_layers=[])),
    ("no_recurrence", changed(recurrent_layers=[])),
    ("no_recurrence_no_reads", changed(recurrent_layers=[], read_recurrent_layers=[])),
    # nothing uses the state vectors then, so nothing looks at their number either
    ("no_recurrence_0_state_vectors", changed(recurrent_layers=[], num_state_vectors=0)),
    ("all_layers_recurrent", changed(recurrent_layers=[1, 2, 3, 4])),
    ("recurrent_layers_unsorted", changed(recurrent_layers=[4, 1])),
    ("reads_unsorted", changed(recurrent_layers=[4, 2], read_recurrent_layers=[1, 2])),
    ("two_reads_in_a_layer_that_writes", changed(recurrent_layers=[4, 1], read_recurrent_layers=[1, 1])),
    ("write_layer_read_elsewhere", changed(recurrent_layers=[3], read_recurrent_layers=[1])),
    ("crossed_reads", changed(recurrent_layers=[4, 3], read_recurrent_layers=[2, 3])),
    # the default write layer is depth // 2
    ("reads_for_the_default_recurrent_layer", changed(read_recurrent_layers=[1])),
    ("null_is_the_default",
     changed(recurrent_layers=None, read_recurrent_layers=None, num_state_vectors=None)),
    ("all_layers_qk_rmsnorm", changed(all_layers_qk_rmsnorm=True)),
    ("heads_1", changed(heads=1)),
    ("heads_not_a_divisor_of_dim", changed(heads=5)),
    ("dim_head_2", changed(dim_head=2)),
    ("dim_head_6", changed(dim_head=6)),
    ("dim_1", changed(dim=1)),
    ("dim_odd", changed(dim=13)),
    ("num_tokens_1", changed(num_tokens=1)),
    ("num_state_vectors_1", changed(num_state_vectors=1)),
    ("num_state_vectors_above_max_seq_len", changed(num_state_vectors=40)),
    ("ff_mult_1", changed(ff_mult=1)),
    ("ff_mult_fraction", changed(ff_mult=2.5)),
    ("ff_mult_below_1", changed(ff_mult=0.3)),
    # int(dim * ff_mult * 2 / 3) is then 0: the weights are empty and the feed-forward adds nothing
    ("ff_mult_0", changed(ff_mult=0)),
    ("ff_mult_rounds_to_0", changed(ff_mult=0.05)),
    ("ignore_index_in_vocabulary", changed(ignore_index=3)),
    ("ignore_index_beyond_vocabulary", changed(ignore_index=1000)),
    ("compressed_memory", changed(use_compressed_mem=True)),
    ("compressed_memory_of_block_width_2", changed(block_width=2, use_compressed_mem=True)),
    ("compressed_mem_factor_1", changed(use_compressed_mem=True, compressed_mem_factor=1)),
    # every factor below 2 leaves the overflow as it is
    ("compressed_mem_factor_0", changed(use_compressed_mem=True, compressed_mem_factor=0)),
    ("compressed_mem_factor_not_a_divisor", changed(use_compressed_mem=True, compressed_mem_factor=3)),
    # a block is then shorter than one compressed entry: there never is any compressed memory
    ("compressed_mem_factor_above_block_width", changed(use_compressed_mem=True, compressed_mem_factor=9)),
    ("compressed_mem_factor_unused", changed(compressed_mem_factor=0)),
)


def rejected_entry(name, wrong, arguments):
    refused = reference.refusal(arguments)
    assert refused is not None, f"{name}: the package accepts it"
    return dict(name=name, wrong=wrong, arguments=arguments, refused_at=refused[0])


def accepted_entry(name, arguments):
    """Accepted means: some chained calls also work and their logits are numbers."""
    model = reference.build_perturbed(arguments, seed=0)
    calls = [torch.randint(0, model.token_emb.num_embeddings, (2, model.max_seq_len)) for _ in range(4)]
    traced = reference.trace_forward(model, calls)
    assert all(torch.isfinite(tensor).all() for tensor in traced.values()), f"{name}: not finite"
    return dict(name=name, arguments=arguments)


def write(folder):
    reference.save_json(folder / "rejected.json", [rejected_entry(*entry) for entry in REJECTED])
    reference.save_json(folder / "accepted.json", [accepted_entry(*entry) for entry in ACCEPTED])
