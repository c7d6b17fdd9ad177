"""The tasks: recurrent networks on real data, each a data set, a model and a few lines on one training core.

The core, used by every task:

- `options`, `commands`: the command line; `begin` makes or resumes a run
- `run`: the folder RUN, its lock, configuration and safe checkpoints
- `training`, `recipes`: the loop, its progress bar, best model, interruption and resumption; the optimizers
- `processes`, `signals`, `memory`: several processes on one training; Ctrl-C; freed memory kept
- `layers`: the recurrent layer of the backend asked for
- `text`, `tokenise`: files as users have them; Japanese and English words
- `batches`: ragged batches without padding
- `drawing`: the next token drawn from a model's logits
- `report`, `scores`, `plots`, `speed`: what a run reports

and `course`, the check of the exercises in docs/course.

How to write a task stands in `training`.

The extra `tasks` installs what they need beside torch.
"""

from fastrnn._extras import require

require("tasks")
