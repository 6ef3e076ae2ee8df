"""Search hyperparameters: Optuna proposes, workers train, and the coordinator keeps the record.

A folder may import those below it in this list, and none above:

- `cli`: one module for each command;
- `display`: what several commands print;
- `execution`: workers, the coordinator, and the jobs of a search and of a confirmation;
- `results`: choosing, testing, exporting and publishing models;
- `optimizer`: Optuna's samplers and pruners, and the view of a study in its storage;
- `protocols`: what these folders expect of each other;
- `study`: settings, search space, config files, workspaces and sessions.
"""
