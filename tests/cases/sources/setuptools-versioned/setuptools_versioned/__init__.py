edited = False
