"""Planning: which packages the image must hold, and how closely they must match the local ones.

In: a scanned environment and the settings. Out: a frozen ``Plan`` with a level, a specifier and a reason for
each package. Nothing is fetched. ``checks/`` finds contradictions and conflicts.
"""
