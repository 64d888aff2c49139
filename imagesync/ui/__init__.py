"""What a person sees: progress, tables, messages."""
