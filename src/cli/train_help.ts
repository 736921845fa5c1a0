/** What `heed train --help` says of recipes: every field of their schema, with its default. */
export const RECIPE_HELP = `
A recipe is one JSON object. It needs
  task            what to train for: one of heed finetune --task
  model           the model's config.json; vocab_size is the tokenizer's unless given
  tokenizer       {type: file, path}, or {type: characters, special, start, end, unknown}, or
                  {type: bpe | unigram | wordpiece, size, special, start, end, unknown,
                  minFrequency: 2, split, lowercase: false}, as of heed tokenizer train
  data            one of these; paths are from the recipe's own folder:
                  {text, validation, validationShare: 0.1}: a text, for lm read in windows
                  {examples, validation, validationShare: 0}: as of heed finetune --help
                  {source, target, validationSource, validationTarget}: line by line
                  {grammar: zh-en, seed: 1, pairs: 100000}: sentences that Heed writes
                  and of files {buffer, skipBad: false}: hold and shuffle so many lines at
                  a time (all), leave out lines that are no examples
  batch           sequences of a batch
  length          tokens of a sequence at most
  steps           updates
  optimizer       {type: adamw | adam, beta1: 0.9, beta2: 0.999, eps: 1e-8,
                  weightDecay: 0.01 (adam: 0), clip: 1}, or
                  {type: sgd, momentum: 0, weightDecay: 0, clip: 1}
  schedule        {type: linear | cosine, learningRate, warmup: 0, minimum: 0}, or
                  {type: constant | inverse_sqrt, learningRate, warmup: 0}
  output          folder of the result; --output instead
and may have
  initialise      {scheme: gpt2, std: 0.02}, or {scheme: xavier}
  seed            0
  accumulate      1: batches of an update
  dropout         {hidden: 0, attention: 0}
  labelSmoothing  0: share of a target that is spread over all
  maskRate        0.15 (masked-translation: 0.5): share of tokens that masked tasks hide
  recompute       false; true computes blocks again in backward: less memory, more time
  precision       f32; mixed computes products of f16 under a scaled loss
  lossScale       {initial: 65536, growEvery: 2000}, of precision mixed
  evaluate        {every, batches, patience, keep}: evaluate what is held out every so many
                  updates (never), on so many batches (all), end after so many without a
                  lower loss (never), keep the best or last weights (best with patience)
  checkpoint      {every: 250, keep: 2}: updates between two, and how many stay
  generation      {}: generation_config.json of the result
  dtype           f32, or f16: of the result's matrices
  $comment        a text

For example (another is models/shakespeare/recipe.json):
  {"task": "lm", "data": {"text": "text.txt"}, "tokenizer": {"type": "bpe", "size": 500},
   "model": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 4,
             "n_head": 4, "n_embd": 128, "n_positions": 128},
   "batch": 8, "length": 128, "steps": 500, "optimizer": {"type": "adamw"},
   "schedule": {"type": "cosine", "learningRate": 0.001, "warmup": 50}, "output": "run"}

Translation, completion, sentence and masked tasks take pairs too: {source, target} or {grammar}.
The result is a folder in the Hub's format, with log.jsonl, curves.svg and checkpoints beside
the model. What is held out of examples is scored at the end.`;
