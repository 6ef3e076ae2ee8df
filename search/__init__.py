"""The search itself: Optuna proposes, workers train, the coordinator keeps the record.

- `space`: what is searched; `settings`: what a study is fixed to, from flags and a TOML file;
- `workspace`: the folder of studies, their names and locks; `study_file`: `study.json`;
- `places`: the URLs of Optuna's and MLflow's databases, and what of them may be shown;
- `study`: Optuna's side: ask, report, prune, tell;
- `worker`: what runs in a worker process; `executors`: where segments run;
- `coordinator`: the loop; `session`: one `mmsearch run`, its parts started, joined and ended;
- `interrupts`: Ctrl-C, once and twice;
- `shown`: what of a study goes into MLflow; `provenance`: versions and the git commit;
- `sampling`: new words from a trial's model;
- `cli`: parses and calls; `progress` and `printing`: what a person sees.
"""
