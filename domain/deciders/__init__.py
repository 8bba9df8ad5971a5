"""What may happen next: the decisions on projects, sessions, prompts, builds, runs and accounts."""
