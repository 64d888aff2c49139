"""conda packages of an environment: prefix records, history, and the owner of each distribution.

A prefix goes in; conda records and packages with their manager come out.
"""
