"""A server that speaks the Messages API and answers from prepared texts."""
