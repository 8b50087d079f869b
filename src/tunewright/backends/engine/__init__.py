"""The built-in engine: a process that speaks the OpenAI wire format."""
