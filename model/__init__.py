"""The network of Bengio et al. (2003) in its makemore shape: from a spec to trained weights.

This room knows words and tensors. It knows nothing of Optuna, MLflow, folders or time, so that
the same input gives the same bits in any process.

- `spec`: `TrialSpec`, everything that a trained model follows from, besides the words;
- `arithmetic`: `fix_arithmetic`, one thread and no subnormal numbers, for whole processes;
- `mlp`: `Parameters`, `init_parameters`, `forward` and `loss`;
- `schedule`: `learning_rates` over steps;
- `minibatches`: drawn examples, or distributions of next characters, and context noise;
- `kernel`: `Kernel`, the training step with hand-written gradients, of SGD or Adam;
- `averaging`: `State` between two segments, and the mean over steps that is the model;
- `evaluation`: `mean_losses` over distinct (context, next) pairs and parts of them;
- `losses`: `WordLosses`, what each word of a list costs, and sums by position in the word;
- `baselines`: `uniform_losses` and `bigram_losses`;
- `ngram`: a Witten-Bell n-gram (`choose_ngram`, `ngram_losses`);
- `scoring`: `word_losses` and `character_losses` of a model, and `bootstrap_interval`;
- `lr_range`: the learning-rate range test, and the range that it suggests;
- `curve`: `CurvePoint`, a point of the minibatch loss curve;
- `training`: `train_segment`, one segment of one trial;
- `sampling`: `sample_words`, new words from a model;
- `checkpoint`: weights as safetensors bytes.
"""
