depth = "3.0"
