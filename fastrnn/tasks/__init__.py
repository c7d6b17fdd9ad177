"""The tasks: recurrent networks on real data, each a data set, a model and a few lines on one training core.

The core, used by every task:

- `run`: the folder RUN, its lock, configuration and safe checkpoints
- `training`: the loop, its progress bar, best model, interruption and resumption
- `layers`: the recurrent layer of the backend asked for
- `batches`: ragged batches without padding
- `scores`, `plots`, `speed`: what a run reports
- `options`, `commands`: the command line

The extra `tasks` installs what they need beside torch.
"""

from fastrnn._extras import require

require("tasks")
