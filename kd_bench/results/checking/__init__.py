"""Records held against themselves, against each other and against the files beside them.

Nothing that a record names is imported, instantiated or unpickled. ``configuration``, ``consistency`` and
``measurements`` are pure functions of records; ``collection`` reads files and sets the tier; ``predictions`` needs
torch and is imported where there are predictions alone.
"""
