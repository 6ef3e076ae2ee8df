"""The command line: `app` lists the commands, and `mmsearch X` is in the module named like X.

Each of these modules has the typer function of its command, its text output and its JSON;
`final-test` is in `final_test_command`. `options` has the options that several commands share,
and `training` what `run` and `confirm` share.
"""
