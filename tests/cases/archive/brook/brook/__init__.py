depth = "1.0"
