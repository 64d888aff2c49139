teeth = 14
