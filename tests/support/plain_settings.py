"""A plain recipe, for tests that do not depend on the default recipe.

Each constant is the content of one table of a config file: evenly spaced evaluations, trials that
end at their last planned step, and only the four original hyperparameters searched.
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
