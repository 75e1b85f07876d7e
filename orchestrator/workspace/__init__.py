"""A workspace: the folder that a person works in, with its settings, its specialists and its trust.

What it does not define falls through to the user's own settings and to the built-in files. Nothing is
imported here: finding a folder must not cost the reading of settings.
"""
