"""Programs for the interpreters of this machine: the probe of a scan, and the compiler of bytecode."""
