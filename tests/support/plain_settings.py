"""A plain recipe, for tests of the search that should hold whatever the default recipe is.

Each constant is the lines of one table of a config file: evenly spaced evaluations, a trial that
ends at its last planned step, and the owner's four hyperparameters searched from the first trial.
"""

TRAINING = """
batch_size = 32
optimizer = "sgd"
targets = "examples"
evaluations = "even"
patience = 0
extend_to = 1
"""
SPACE = """
weight_decay = 0
context_noise = 0
"""
SEARCH = """
start = false
"""
