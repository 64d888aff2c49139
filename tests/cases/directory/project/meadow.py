flowers = ("clover", "daisy")
