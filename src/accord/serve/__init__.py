"""Serving a model over HTTP in the form of OpenAI's API: what real clients send is answered, or refused by name."""
