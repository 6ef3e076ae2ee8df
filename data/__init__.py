"""The data room: words, their split and their contexts. It imports nothing of the other rooms.

- `mmsearch.data.corpus`: reads, cleans and fingerprints words (`read_corpus`, `Corpus`,
  `Vocabulary`, `BUILTIN_CORPUS`, `BOUNDARY`, `MIN_DISTINCT_WORDS`);
- `mmsearch.data.tables`: finds and reads a column of a table (`table_delimiter`, `read_column`);
- `mmsearch.data.encodings`: names the encoding of a file that is not UTF-8 (`other_encodings`);
- `mmsearch.data.split`: train, dev and a sealed test (`split_corpus`, `Split`, `SealedTest`,
  `Claim`, `DEFAULT_SPLIT_SEED`);
- `mmsearch.data.ids`: words into rows of character ids (`encode_words`);
- `mmsearch.data.contexts`: words into tensors (`build_contexts`, `Contexts`, `distinct`,
  `DistinctContexts`);
- `names.txt`: the built-in corpus, made by `docs/gen/make_names.py`; `README.md` says from what.

Only `contexts` loads torch, so import from the modules: this package re-exports nothing.
"""
