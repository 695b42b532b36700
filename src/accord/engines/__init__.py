"""Generation engines: prompts as token ids in, completions with log-probabilities out."""
