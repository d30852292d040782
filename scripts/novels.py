#!/usr/bin/env python3
"""Write the novels in Rdata.rdb, the data of Debian's r-cran-janeaustenr, as text files.

    novels.py Rdata.rdb DIR

The file is a sequence of records: the length of a book's data as a 4-byte big-endian integer, then the data as a zlib
stream. The data is a character vector in R's XDR serialisation: one string per line of the book."""
import struct
import sys
import zlib
from pathlib import Path

CHARACTER_VECTOR, STRING = 16, 9  # R's numbers of types
MISSING = -1


class Reader:
    """Big-endian integers and bytes, one after the other."""

    def __init__(self, data):
        self.data = data
        self.position = 0

    def bytes(self, count):
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise ValueError("the data ends too early")
        part = self.data[self.position:end]
        self.position = end
        return part

    def integer(self):
        return struct.unpack(">i", self.bytes(4))[0]


def records(content):
    """The uncompressed records."""
    while content:
        length = struct.unpack(">I", content[:4])[0]
        stream = zlib.decompressobj()
        data = stream.decompress(content[4:], length)
        if len(data) != length:
            raise ValueError(f"a record has {len(data)} bytes instead of {length}")
        # The checksum may not have been read yet.
        stream.decompress(stream.unconsumed_tail)
        content = stream.unused_data
        yield data


def lines(data):
    """The strings of a serialised character vector, as bytes."""
    reader = Reader(data)
    if reader.bytes(2) != b"X\n":
        raise ValueError("not R's XDR serialisation")
    version = reader.integer()
    reader.bytes(8)  # which R wrote it, and which can read it
    if version == 3:
        reader.bytes(reader.integer())  # the name of the encoding
    if reader.integer() & 0xFF != CHARACTER_VECTOR:
        raise ValueError("not a character vector")
    for _ in range(reader.integer()):
        if reader.integer() & 0xFF != STRING:
            raise ValueError("not a string")
        length = reader.integer()
        yield b"" if length == MISSING else reader.bytes(length)


def file_name(title):
    words = "".join(c if c.isalpha() else " " for c in title.decode("utf-8").lower()).split()
    return "-".join(words) + ".txt"


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: novels.py Rdata.rdb DIR")
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for data in records(Path(sys.argv[1]).read_bytes()):
        book = list(lines(data))
        (target / file_name(book[0])).write_bytes(b"\n".join(book) + b"\n")


if __name__ == "__main__":
    main()
