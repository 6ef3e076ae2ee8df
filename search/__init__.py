"""The search itself: Optuna proposes, workers train, the coordinator keeps the record.

- `space`: what is searched; `settings`: what a study is fixed to, from flags and a TOML file;
- `workspace`: the folder of studies, their names and locks;
- `study`: Optuna's side: ask, report, prune, tell;
- `worker`: what runs in a worker process; `executors`: where segments run;
- `coordinator`: the loop; `progress`: what a person sees of it;
- `provenance`: versions and the git commit;
- `cli`: parses, calls, prints.
"""
