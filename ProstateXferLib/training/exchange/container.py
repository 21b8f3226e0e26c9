# SPDX-License-Identifier: Apache-2.0
"""The bytes of a weights package: an uncompressed ZIP whose every byte follows from its members.

Any unzip tool opens it, so that whoever lets it out of a hospital can look inside. It is read without a ZIP library:
names, order and all other fields are fixed, hence no member can lie elsewhere, expand, or hide beside the others, and
every byte that differs from what `write_container` writes is found.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file

RECORD, SIGNATURE, MODEL = "exchange.json", "signature.txt", "model.safetensors"
ORDERS = ((RECORD, MODEL), (RECORD, SIGNATURE, MODEL))
_LARGEST_TEXT = 1 << 20  # of the record and of the signature, in bytes; they are held in memory
_LARGEST_MODEL = 0xFFFF0000  # bytes; beyond 4 GiB a ZIP needs other headers
_CHUNK = 1 << 20
# ZIP's own structures (PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.16), little-endian.
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_NEEDED_VERSION = 20
_FIRST_DAY = (0, 0x21)  # time, date: 1980-01-01 00:00, ZIP's earliest; equal content shall make equal files


@dataclass(frozen=True)
class Member:
    """One file of the package: size in bytes, CRC-32, and where its local header begins."""

    name: str
    size: int
    crc: int
    start: int

    @property
    def header(self) -> bytes:
        """Its local header."""
        fields = (_NEEDED_VERSION, 0, 0, *_FIRST_DAY, self.crc, self.size, self.size, len(self.name), 0)
        return _LOCAL.pack(b"PK\3\4", *fields) + self.name.encode("ascii")

    @property
    def directory_entry(self) -> bytes:
        """Its entry in the directory at the end."""
        fields = (_NEEDED_VERSION, _NEEDED_VERSION, 0, 0, *_FIRST_DAY, self.crc, self.size, self.size, len(self.name))
        return _CENTRAL.pack(b"PK\1\2", *fields, 0, 0, 0, 0, 0, self.start) + self.name.encode("ascii")

    @property
    def content_start(self) -> int:
        """Where its bytes begin."""
        return self.start + len(self.header)


@dataclass(frozen=True)
class Container:
    """A package whose bytes have been checked."""

    path: Path
    members: Mapping[str, Member]

    def read(self, name: str) -> bytes:
        """A small member's bytes."""
        member = self.members[name]
        with self.path.open("rb") as stream:
            stream.seek(member.content_start)
            return stream.read(member.size)

    def copy(self, name: str, target: Path) -> Path:
        """Write a member's bytes to `target`, whole or not at all."""
        member = self.members[name]
        with atomic_file(target) as temporary, self.path.open("rb") as stream, temporary.open("wb") as sink:
            stream.seek(member.content_start)
            left = member.size
            while left and (chunk := stream.read(min(left, _CHUNK))):
                sink.write(chunk)
                left -= len(chunk)
        return target


def write_container(path: Path, texts: Mapping[str, bytes], model: Path) -> Path:
    """Write the record (and a signature) and the checkpoint `model` into one file, beside the target first.

    Raises:
        ProstateXferError: a model of more than 4 GiB; the folder is missing or not writable, the disk is full.
    """
    size = model.stat().st_size
    if size > _LARGEST_MODEL:
        raise ProstateXferError(f"'{model.name}' has {size / 2**30:.1f} GiB; a package holds less than 4: store fp16.")
    members, start = [], 0
    for name in next(order for order in ORDERS if {*order} == {*texts, MODEL}):
        if name == MODEL:
            with model.open("rb") as stream:
                crc = _crc_of(stream, size)
        else:
            crc = zlib.crc32(texts[name])
        members.append(Member(name, size if name == MODEL else len(texts[name]), crc, start))
        start = members[-1].content_start + members[-1].size
    with atomic_file(path) as temporary, temporary.open("wb") as sink:
        for member in members:
            sink.write(member.header)
            if member.name == MODEL:
                with model.open("rb") as stream:
                    while chunk := stream.read(_CHUNK):
                        sink.write(chunk)
            else:
                sink.write(texts[member.name])
        sink.write(_tail(members))
    return Path(path)


def read_container(path: Path) -> Container:
    """Check every byte of the package's frame and the CRC-32 of its members.

    Raises:
        ProstateXferError: no such file, no package, cut off, or altered.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            members = _members(stream, path)
            tail = _tail(members)
            if stream.read(len(tail) + 1) != tail:
                raise _damaged(path, "its directory is not what its members ask for")
    except OSError as error:
        raise ProstateXferError(f"The package '{path}' cannot be read ({error.strerror}): check the path.") from error
    return Container(path, {member.name: member for member in members})


def is_container(path: Path) -> bool:
    """Whether the file begins like a weights package, by its content, not its name."""
    try:
        with Path(path).open("rb") as stream:
            begin = stream.read(_LOCAL.size + len(RECORD))
    except OSError:
        return False
    return begin[:4] == b"PK\3\4" and begin[_LOCAL.size :] == RECORD.encode("ascii")


def _members(stream: BinaryIO, path: Path) -> list[Member]:
    members: list[Member] = []
    while not members or members[-1].name != MODEL:
        names = {order[len(members)] for order in ORDERS if [*order][: len(members)] == [m.name for m in members]}
        start = stream.tell()
        fixed = stream.read(_LOCAL.size)
        if len(fixed) < _LOCAL.size:
            raise _damaged(path, "it was cut off")
        _, _, _, _, _, _, crc, size, _, length, _ = _LOCAL.unpack(fixed)
        name = next((name for name in names if len(name) == length), None)
        found = fixed + stream.read(length if name else 0)
        if name is None or (member := Member(name, size, crc, start)).header != found:
            raise _damaged(path, f"there is no proper header at byte {start}")
        if size > (_LARGEST_MODEL if name == MODEL else _LARGEST_TEXT):
            raise _damaged(path, f"its {name} is larger than any that is written")
        if _crc_of(stream, size) != crc:
            raise _damaged(path, f"the content of its {name} does not match its checksum")
        members.append(member)
    return members


def _tail(members: Sequence[Member]) -> bytes:
    directory = b"".join(member.directory_entry for member in members)
    count, start = len(members), members[-1].content_start + members[-1].size
    return directory + _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), start, 0)


def _crc_of(stream: BinaryIO, size: int) -> int:
    crc = 0
    while size and (chunk := stream.read(min(size, _CHUNK))):
        crc = zlib.crc32(chunk, crc)
        size -= len(chunk)
    return crc if not size else -1  # a file that ends early has no CRC


def _damaged(path: Path, why: str) -> ProstateXferError:
    return ProstateXferError(f"'{path.name}' is not a whole, unaltered weights package ({why}): get it again.")
