"""Who says which reply is better: language models over HTTP, reward models, truth where it is known."""
