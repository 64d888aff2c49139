"""Commands with a module of their own; the command line imports all of them, so they import little."""
