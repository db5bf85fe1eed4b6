"""The page of ``fss app``: mark an object in a photograph, find it in the others, correct, export, compare mask sets.

``session`` holds the state and the logic without a page, and ``page``, ``editor`` and ``comparison_tab`` show it with
NiceGUI, which is an extra: ``pip install 'fss-masks[app]'``.
"""
