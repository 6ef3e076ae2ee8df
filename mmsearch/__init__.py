"""mmsearch: hyperparameter search for character-level MLP language models, with an honest record.

The four rooms stand at the top of the repository and are linked in here, so that `mmsearch` is
the only name that lands in anybody's site-packages:

- `mmsearch.data`: words, splits and contexts;
- `mmsearch.model`: the network, its training and its checkpoints;
- `mmsearch.tracking`: the journal, MLflow and the figures;
- `mmsearch.search`: Optuna, the coordinator and the command line.

Below them stand `mmsearch.errors` and `mmsearch.secrets`, which hides passwords.

Importing this package starts nothing and loads none of them.
"""
