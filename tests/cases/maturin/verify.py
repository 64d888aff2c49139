import subprocess

import by_maturin

assert by_maturin.read() == "data of by-maturin"
assert subprocess.run(["by-maturin"], capture_output=True, text=True, check=True).stdout == "hello from Rust\n"
