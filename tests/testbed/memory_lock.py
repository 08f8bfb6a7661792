# SPDX-License-Identifier: Apache-2.0
"""Locks a range of another process's memory, as QEMU does for <locked/>: by a system call in its own name. For hosts
where libvirt may not raise the limit of locked memory, so that no domain with <locked/> starts."""

import contextlib
import ctypes
import os

_SYS_MLOCK = 149
_ATTACH, _DETACH, _GETREGS, _SETREGS, _SINGLESTEP = 16, 17, 12, 13, 9
_RIP, _RAX, _ORIG_RAX, _RDI, _RSI = 16, 10, 15, 14, 13  # indices in struct user_regs_struct (x86-64)
_Registers = ctypes.c_ulonglong * 27

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request, pid, data=None):
    if _libc.ptrace(request, pid, None, data) == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace {request} of {pid}: {os.strerror(error)}")


@contextlib.contextmanager
def _stopped(pid):
    _ptrace(_ATTACH, pid)
    os.waitpid(pid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        _ptrace(_DETACH, pid)


def _system_call_instruction(pid):
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        line = next(line for line in maps if line.rstrip().endswith("[vdso]"))
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        return start + memory.read(end - start).index(b"\x0f\x05")


def lock_memory(pid, start, size):
    """Raises OSError where the kernel refuses."""
    with _stopped(pid):
        saved = _Registers()
        _ptrace(_GETREGS, pid, ctypes.byref(saved))
        injected = _Registers(*saved)
        injected[_RIP] = _system_call_instruction(pid)
        injected[_RAX], injected[_ORIG_RAX] = _SYS_MLOCK, 2**64 - 1
        injected[_RDI], injected[_RSI] = start, size
        _ptrace(_SETREGS, pid, ctypes.byref(injected))
        _ptrace(_SINGLESTEP, pid)
        os.waitpid(pid, 0x40000000)
        _ptrace(_GETREGS, pid, ctypes.byref(injected))
        _ptrace(_SETREGS, pid, ctypes.byref(saved))
    result = ctypes.c_longlong(injected[_RAX]).value
    if result < 0:
        raise OSError(-result, f"mlock of {size} bytes in {pid}: {os.strerror(-result)}")
