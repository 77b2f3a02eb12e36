"""Data: checked rows, OGBench's files, collecting them, chunks and replay.

dataset  ``Dataset``: arrays of one's own, checked before training
ogbench  ``load``: an OGBench npz with one task's rewards; ``find``, ``default_path``
collect  ``collect``: play data by OGBench's scripted oracles, in several processes
play     one such episode; the file that collecting processes run
check    ``info`` and ``check``: what a file holds, and what is wrong with it
record   what stands beside a file about how it was made
digest   which rows they are: ``digest``, ``check_same_rows``
npz      reading files without trusting them
chunk    h-step transitions out of rows
replay   offline and online rows in one draw
"""
