"""Reads a trace as JSON lines by docs/trace-format.md alone, and prints the tree at the end of each history.

The second, independent reader of the format: the certifier's `trace tree` has to print the same. Standard library only.
"""

import base64
import hashlib
import json
import sys
from urllib.parse import unquote_to_bytes

BLOCK = 4096


class Disk:
    """The live state: what the newest version of each cell says."""

    def __init__(self):
        self.inodes, self.targets, self.entries = {}, {}, {}
        self.blocks, self.sizes, self.modes = {}, {}, {}

    def apply(self, effect):
        ((cell, e),) = effect.items()
        if cell == "inode":
            assert e["ino"] not in self.inodes, "an inode is made once"
            self.inodes[e["ino"]] = e
        elif cell == "target":
            self.targets[e["ino"]] = e["text"]
        elif cell == "entry":
            self.entries.setdefault(e["dir"], {})[unquote_to_bytes(e["name"])] = e["ino"]
        elif cell == "block":
            self.blocks[e["ino"], e["n"]] = e["blob"]
        elif cell == "size":
            self.sizes[e["ino"]] = e["bytes"]
        elif cell == "mode":
            self.modes[e["ino"]] = e["mode"]
        else:
            assert cell in ("owner", "xattr"), cell

    def content(self, ino, blobs):
        size = self.sizes.get(ino, 0)
        digest = hashlib.sha256()
        for n in range((size + BLOCK - 1) // BLOCK):
            blob = self.blocks.get((ino, n))
            block = b"" if blob is None else blobs[blob]
            visible = min(BLOCK, size - n * BLOCK)
            digest.update(block.ljust(BLOCK, b"\0")[:visible])
        return f"{size} {digest.hexdigest()}"

    def nodes(self, blobs, path=b"/", ino=1):
        birth = self.inodes[ino]
        kind, mode = birth["kind"], self.modes.get(ino, birth["mode"])
        if kind == "symlink":
            yield path, f"symlink - - {self.targets.get(ino, '')}"
        elif kind == "file":
            yield path, f"file {mode} {self.content(ino, blobs)}"
        else:
            yield path, f"{kind} {mode} - -"
        for name, child in self.entries.get(ino, {}).items():
            if child is not None:
                slash = b"" if path.endswith(b"/") else b"/"
                yield from self.nodes(blobs, path + slash + name, child)


def escape(data):
    return "".join(chr(b) if 0x20 <= b <= 0x7E and b != 0x25 else f"%{b:02X}" for b in data)


def main(file):
    blobs, digest, histories, disk, records, sealed = {}, hashlib.sha256(), [], None, 0, False
    for line in file:
        assert not sealed, "nothing follows the seal"
        ((record, r),) = json.loads(line).items()
        if record == "header":
            assert records == 0 and r["format"] == 1, "a format that this reader knows"
        elif record == "blob":
            data = base64.b64decode(r["bytes"], validate=True)
            assert hashlib.sha256(data).hexdigest() == r["id"]
            blobs[r["id"]] = data
        elif record == "history":
            disk, ops = Disk(), 0
            histories.append((r["label"], disk))
        elif record == "op":
            assert r["seq"] == ops
            ops += 1
            for effect in r["effects"]:
                disk.apply(effect)
        elif record == "mark":
            assert r["after"] == ops - 1
        elif record == "end":
            assert r["ops"] == ops
        elif record == "seal":
            assert (r["records"], r["sha256"]) == (records, digest.hexdigest())
            sealed = True
        else:
            assert record == "node", record
        digest.update(line)
        records += 1
    assert sealed, "the file is whole"
    for at, (label, disk) in enumerate(histories, 1):
        if len(histories) > 1:
            print(f"history {at}" + (f": {label.rstrip(':')}" if label else ""))
        for path, line in sorted(disk.nodes(blobs)):
            print(line, escape(path))


if __name__ == "__main__":
    main(sys.stdin.buffer)
