# SPDX-License-Identifier: Apache-2.0
"""A disk of a test's own, that can be filled up and made to fail: a file system on a loop device."""

import contextlib
import os
import subprocess

from .sizes import MIB

_METADATA = 8 * MIB  # of the file system, at its beginning


def _run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()


class LoopDisk:
    """Context manager, in a directory that it makes; `directory` is where it is mounted. It goes also while files are open
    there, like a disk that is pulled out."""

    def __init__(self, place, size):
        self._place = place
        self._size = size
        self._image = place / "image"
        self._stack = contextlib.ExitStack()
        self._device = None
        self.directory = place / "mounted"

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for directory in (self._place, self.directory):
                directory.mkdir()
                stack.callback(directory.rmdir)
            stack.callback(self._image.unlink)
            self._image.touch()
            os.truncate(self._image, self._size)
            # Without a journal and work that is put off: data alone is written later.
            _run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0", self._image)
            self._device = _run("losetup", "--find", "--show", "--direct-io=on", self._image)
            stack.callback(_run, "losetup", "--detach", self._device)
            _run("mount", self._device, self.directory)
            stack.callback(_run, "umount", "--lazy", self.directory)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    @contextlib.contextmanager
    def failing(self):
        """Reads and writes of data fail with EIO; afterwards it is as it was before."""
        content = self._image.read_bytes()
        self._cut(_METADATA)
        try:
            yield
        finally:
            with open(self._image, "r+b") as image:
                image.seek(_METADATA)  # before that it has worked all the time
                image.write(content[_METADATA:])
            self._cut(self._size)

    def _cut(self, size):
        os.truncate(self._image, size)
        _run("losetup", "--set-capacity", self._device)
