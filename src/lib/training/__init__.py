"""Training (02 and 05): the trainer, losses, batches, pseudo-labelled training texts."""
