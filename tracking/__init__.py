"""The record: what happened, durable and local, and how it is shown.

This room takes plain parameters, metrics and paths. Of the other rooms it imports `model.spec`
alone, and nothing of Optuna or torch.

- `journal`: the folder of one study, which everything else is filled from
- `ledger`: the looks at test splits, in the user's own files and in MLflow
- `mlflow`: a study in MLflow, the registry, and the server of the UI
- `figures`: what is drawn
- `uploader`: the thread that fills a view while the search goes on
- `hyperparameters`: the columns of every table; `study_summary`: where a study stands
- `markdown`, `html_report`: the pieces of notes, and a page of them
"""
