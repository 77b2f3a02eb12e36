"""What a disk may hold after the power failed: less than the operating system had been told.

A file's bytes are safe once the file was flushed, a folder's names once the folder was. Of what
was not flushed, names of one folder appear in the order in which they were made, as journalling
file systems keep them, and a rename as a whole; anything else may be there or not, in any mixture.
"""


class Disk:
    """Files and folders, as they are and as they are safe."""

    def __init__(self):
        """Empty."""
        self._bytes, self._safe = {}, {}
        self._names, self._safe_names, self._changes = {0: {}}, {0: {}}, {0: []}
        self._made = 0

    def apply(self, operation):
        """Makes one operation of a trace."""
        name, path, *rest = operation
        if name == "fsync":
            self._flush(self._find(path))
        elif name == "write":
            self._bytes[self._find(path)] += rest[0]
        elif name == "ftruncate":
            number = self._find(path)
            self._bytes[number] = self._bytes[number][: rest[0]]
        elif path:
            self._name(name, path, *rest)

    def _flush(self, number):
        if number in self._bytes:
            self._safe[number] = self._bytes[number]
        else:
            self._safe_names[number], self._changes[number] = dict(self._names[number]), []

    def _name(self, name, path, *rest):
        folder, last = self._parent(path)
        known = self._names[folder].get(last)
        if name == "open" and known is not None:
            if rest[0]:
                self._bytes[known] = b""
        elif name in ("open", "mkdir"):
            self._change(folder, {last: self._new(file=name == "open")})
        elif name in ("unlink", "rmdir"):
            self._change(folder, {last: None})
        else:
            target, new = self._parent(rest[0])
            assert target == folder, "a rename is within one folder"
            self._change(folder, {last: None, new: known})

    def _new(self, *, file):
        self._made += 1
        if file:
            self._bytes[self._made] = self._safe[self._made] = b""
        else:
            self._names[self._made], self._safe_names[self._made] = {}, {}
            self._changes[self._made] = []
        return self._made

    def _change(self, folder, change):
        self._changes[folder].append(change)
        self._names[folder] = _changed(self._names[folder], [change])

    def _find(self, path):
        number = 0
        for name in filter(None, path.split("/")):
            number = self._names[number][name]
        return number

    def _parent(self, path):
        folder, _, last = path.rpartition("/")
        return self._find(folder), last

    def left(self, choose):
        """A tree that may be there afterwards; ``choose`` picks from a list, safest first.

        With ``choose`` the first: all is lost that was not flushed.
        """
        return dict(self._walk(0, "", choose))

    def _walk(self, folder, at, choose):
        changes = self._changes[folder]
        count = choose(range(len(changes) + 1))
        names = _changed(self._safe_names[folder], changes[:count])
        for name, number in sorted(names.items()):
            if number in self._bytes:
                yield at + name, choose(self._contents(number))
            else:
                yield at + name, None
                yield from self._walk(number, f"{at}{name}/", choose)

    def _contents(self, number):
        now, safe = self._bytes[number], self._safe[number]
        if now == safe:
            return [now]
        amid = (len(safe) + len(now)) // 2 if now.startswith(safe) else len(now) // 2
        return [safe, now[:amid], now]


def _changed(names, changes):
    for change in changes:
        names = {k: v for k, v in (names | change).items() if v is not None}
    return names
