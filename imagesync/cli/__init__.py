"""The command line: one module per command, and what they share.

Arguments and environment variables go in; an answer on stdout, messages on stderr and an exit code come out.
"""
