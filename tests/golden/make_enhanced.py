#!/usr/bin/env python3
"""Write early_enhanced/ from release 0.3.0 of the original package: the last one with enhanced recurrence, which
also had a window of exact width. README.md says what is in it.

Run with the Python of setup_reference.sh, whose folder `enhanced` has that release."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.prefix) / "enhanced"))

import reference
from cases import Case
from make_golden import seed_of, write_model

# Without recurrent layers: that release let states attend to the block before, too.
CASE = Case("early_enhanced",
            dict(num_tokens=21, dim=24, depth=4, dim_head=8, heads=3, max_seq_len=18, block_width=6,
                 recurrent_layers=[], all_layers_qk_rmsnorm=True, enhanced_recurrence=True),
            forward=(18, 6, 12), loss=(18, 12, 5))

if __name__ == "__main__":
    write_model(CASE, reference.build_perturbed(CASE.arguments, seed_of(CASE)), CASE.arguments | dict(window="exact"))
