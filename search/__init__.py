"""The search itself: Optuna proposes, workers train, the coordinator keeps the record.

- `space`: what is searched; `recipes`: the defaults of a study; `settings`: what a study is fixed
  to, from flags and a TOML file; `config_text`: that file written out; `json_text`: what `--json`
  prints;
- `workspace`: the folder of studies, their names and locks; `study_file`: `study.json`;
- `records`: what a trial's record has to be;
- `places`: the URLs of Optuna's and MLflow's databases, and what of them may be shown;
- `study`: the Optuna study in memory that proposes and prunes; `optuna_view`: the same trials in
  an Optuna storage, for other programs; `storage`: how that is opened;
- `worker`: what runs in a worker process; `executors`: where segments run;
  `cores`: how many there may be;
- `coordinator`: the loop; `session`: a study opened and checked; `crew`: a job's parts started,
  joined and ended;
- `baselines`: counted beside a study's first search; `advice`: what a result is held against, and
  what it warns of;
- `selection`: which model is chosen, on dev; `confirmation`: the best trials from fresh seeds;
- `ledger`: looks at a test split; `final_test`: the one look; `replay`: a trial trained again;
- `export`: a model as files; `verdicts`: what is said of a chosen model;
- `interrupts`: Ctrl-C, SIGTERM and SIGHUP, once and twice;
- `range_test`: the learning-rate range test on a corpus;
- `shown`: what of a study goes into MLflow; `provenance`: versions and the git commit;
- `sampling`: new words from a model; `report`: a study as one page;
- `optimism`: by how much choosing on dev flatters;
- `importances`: how much of the dev loss's variance each hyperparameter explains;
- `cli`, `cli_models`, `cli_setup`, `cli_shown` and their `options`: parse and call;
  `browser`: opens a page in a window;
- `progress`: what is seen of a search as it goes; `board`: where it stands; `chart`: its curves;
  `watch`: followed from another terminal;
  `printing`, `wording`, `tables`: what is printed.
"""
