"""Data: checked rows, OGBench's files, collecting them, chunks and replay.

dataset    ``Dataset``: arrays of one's own, checked before training
blocks     columns larger than memory, some neighbouring rows at a time
ogbench    ``load``: an OGBench npz with one task's rewards; ``find``, ``default_path``
sets       OGBench's data sets: names, kinds, sizes; ``find_set``
collect    ``collect``: data by OGBench's scripted oracles, in several processes
download   ``download``: the official sets; ``transfer``: one file over HTTP, with resume
play       one such episode; the file that collecting processes run
check      ``info`` and ``check``: what a file holds, and what is wrong with it
storage    what the disk refuses, as one kind of error
record     what stands beside a file about how it was made
digest     which rows they are: ``digest``, ``check_same_rows``
npz        reading files without trusting them
own        ``load_data``, ``convert``: a data set by its path, whatever its format
recording  rows as a file holds them, and what they become
actions    how recorded actions become [-1, 1]
describe   what a data set holds, in numbers
foreign    HDF5 and Parquet in a process of their own: ``robomimic``, ``lerobot``, ``minari_rows``
columns    folders of ``.npy`` files; ``mapped``: finished rows in them, mapped
host       windows of rows that stay on the host; ``ahead``, ``shards``: the next ones meanwhile
chunk      h-step transitions out of rows; ``trajectory``: actions from the last one on
frames     frames kept once and stacked when they are read; ``augment``: random shifts
replay     offline and online rows in one draw
"""
