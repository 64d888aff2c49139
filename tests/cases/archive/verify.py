import brook
import pond

assert brook.depth == "1.0"
assert pond.depth == "3.0"
