"""The record: what happened, durable and local, and how it is shown.

This room takes plain parameters, metrics and paths. It imports `model.spec` alone of the other
rooms, and nothing of Optuna or torch.

- `journal`: one study's folder, the truth about its trials; `files`: how it is written;
  `following`: read while another process writes it;
- `baselines`: the dev losses that a study's trials are held against;
- `looks`: looks at a test split, in the user's own ledger; `final_runs`: the same in MLflow;
- `champion`: the chosen model in MLflow's registry; `served`: what answers for it there;
- `mlflow`: the journal shown in MLflow; `store`: an MLflow store, made and opened;
  `homes`: where the artifacts of a workspace's own store lie;
  `migration`: a store of an older MLflow brought to the installed one's schema;
- `columns`: the columns in which hyperparameters are shown; `curve_scale`: the range of charts;
- `rendering`: a record's points, figures and note, as MLflow shows them;
- `uploader`: the thread that brings a view up to the journal; `logs`: a study's log file;
- `figures`: loss curve and study figures;
- `embedding`: the figure of an embedding; `fresh_seeds`: that of a confirmation;
- `lr_range`: the figure of a learning-rate range test; `range_runs`: its run in MLflow;
- `page`: Markdown and pictures as one HTML file;
- `style`: what the figures share, and how they are written;
- `views`: the saved view that the UI opens a study on;
- `ui`: starts and deep-links the MLflow UI.
"""
