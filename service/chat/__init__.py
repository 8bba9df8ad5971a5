"""A message becomes a reply: admission, the dialogue with the model, settlement, recovery."""
