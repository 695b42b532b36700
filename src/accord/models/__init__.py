"""Hugging Face models as Accord uses them: chat encoding, policies, heads, LoRA, checkpoints."""
