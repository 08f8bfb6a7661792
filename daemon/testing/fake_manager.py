#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Speaks docs/manager-protocol.md like thermocline-manager, but touches no process. For the daemon's tests.

What it is to do is taken from the environment variable FAKE_MANAGER, words separated by commas:
  refuse        `run` answers NotSupported           die            `run` ends without a word
  silent        `run` never answers                  garbage        `run` says what is no JSON
  detach-fails  `detach` answers OutOfMemory         detach-hangs   `detach` is never answered
  limit-fails   `set-limit` answers InvalidLimit     cure-refuses   `cure` exits 1
  stall-fails   `set-proactive` answers InvalidArgument
  lingers       does not end when it should          mute           answers no request at all
  recover-dies  `run --recover` ends without a word  recover-refuses  it answers NotSupported
  older         knows nothing of `set-activity`  keeps          `hand-over` answers NotSupported
  probe-fails   `probe` exits 1
  recover-cured `run --recover` answers NotAttached  recover-late  it answers Busy
  loses         a page cannot be had
"""
import json
import os
import select
import socket
import sys
import time
from pathlib import Path

MIB = 1 << 20
WORDS = set(os.environ.get("FAKE_MANAGER", "").split(","))


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def status(pid):
    frozen = {"frozen_bytes": 8 * MIB, "file_bytes": 4 * MIB, "file_tier": "open", "frozen_faults": 7}
    policy = {"policy": "clock", "policy_note": 'policy "p" is switched off'} if "--policy" in sys.argv else {}
    lost = {"lost_pages": 1, "lost_note": "page 7 cannot be brought back: damaged"} if "loses" in WORDS else {}
    return lost | (frozen if "--file-tier-dir" in sys.argv else {}) | policy | {
        "pid": pid, "state": "attached", "mechanism": "move", "memory_bytes": 512 * MIB,
        "resident_bytes": 512 * MIB, "staged_bytes": 0, "cold_bytes": 0, "store_bytes": 0, "metadata_bytes": MIB,
        "used_bytes": 513 * MIB, "limit_bytes": 0, "limit_met": True, "limit_note": "", "faults": 0,
        "staged_faults": 0, "cold_faults": 0, "zero_faults": 0, "evicted_pages": 0, "prefetched_pages": 0,
        "proactive_max_stall": 0.0, "min_resident_bytes": 0, "stall_ns": 0,
        "stall_ratio": 0.0, "attach_pause_us": 321, "manager_rss_bytes": 3 * MIB,
    } | ({} if "older" in WORDS else {"activity": "running"})


def ready(fd, message):
    os.write(fd, (message if isinstance(message, str) else json.dumps(message)).encode() + b"\n")
    os.close(fd)


class Manager:
    def __init__(self, pid, state_dir):
        self.pid = pid
        self.vm = os.pidfd_open(pid)
        self.status = status(pid)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.path.join(state_dir, "manager.sock")
        if "--recover" in sys.argv:
            Path(path).unlink(missing_ok=True)
        self.listener.bind(path)
        self.listener.listen()
        self.clients = {}  # socket -> subscribed
        with open(os.path.join(state_dir, "arena"), "w", encoding="ascii") as arena:
            arena.write("cold pages")

    def send(self, client, message):
        try:
            client.send(json.dumps(message).encode())
        except OSError:
            self.clients.pop(client, None)

    def tell(self, event):
        for client, subscribed in list(self.clients.items()):
            if subscribed:
                self.send(client, event)

    def answer(self, client, request):
        """False: time to end."""
        answer = {"id": request["id"]}
        method = request["method"]
        if "mute" in WORDS:
            return True
        if method == "detach" and "detach-hangs" in WORDS:
            self.status["state"] = "detaching"
            return True
        if method == "detach" and "detach-fails" in WORDS:
            answer["error"] = {"name": "OutOfMemory", "message": "the host has not the memory to bring 1 GiB back"}
        elif method == "set-limit" and "limit-fails" in WORDS:
            answer["error"] = {"name": "InvalidLimit", "message": "the manager does not like it"}
        elif method == "set-limit":
            limit = request["params"]["limit_bytes"]
            resident = min(limit, 512 * MIB) if limit else 512 * MIB
            self.status.update(limit_bytes=limit, resident_bytes=resident, cold_bytes=512 * MIB - resident,
                               evicted_pages=(512 * MIB - resident) // 4096)
            answer["result"] = self.status
        elif method == "set-proactive" and ("stall-fails" in WORDS or request["params"]["max_stall"] > 0.5):
            answer["error"] = {"name": "InvalidArgument", "message": "the manager does not like this stall"}
        elif method == "set-proactive":
            self.status.update(proactive_max_stall=request["params"]["max_stall"],
                               min_resident_bytes=request["params"]["min_resident_bytes"])
            answer["result"] = self.status
        elif method == "set-activity" and "older" in WORDS:
            answer["error"] = {"name": "InvalidArgument", "message": "unknown method"}
        elif method == "set-activity":
            self.status["activity"] = request["params"]["activity"]
            answer["result"] = self.status
        elif method == "hand-over" and "keeps" in WORDS:
            answer["error"] = {"name": "NotSupported", "message": "nobody could go on"}
        elif method == "close-file-tier" and "file_tier" not in self.status:
            answer["error"] = {"name": "NotSupported", "message": "this VM has no file tier"}
        elif method == "close-file-tier":
            self.status.update(frozen_bytes=0, file_bytes=0, file_tier="switched off")
            answer["result"] = self.status
        elif method == "heat" and request["params"]["pieces"] == 0:
            answer["error"] = {"name": "InvalidArgument", "message": "the manager wants pieces"}
        elif method == "heat":
            answer["result"] = {"working_set_bytes": 3 * MIB,
                                "pieces": [[1, 2, 3, n] for n in range(request["params"]["pieces"])]}
        elif method == "subscribe":
            self.clients[client] = True
            answer["result"] = {}
        else:
            if method == "detach":
                self.status["state"] = "detached"
            answer["result"] = self.status
        self.send(client, answer)
        return method not in ("detach", "hand-over") or "error" in answer

    def serve(self):
        next_tick = time.monotonic() + 1
        while True:
            watched = [self.listener, self.vm, *self.clients]
            readable, _, _ = select.select(watched, [], [], max(0.0, next_tick - time.monotonic()))
            for source in readable:
                if source is self.listener:
                    self.clients[self.listener.accept()[0]] = False
                elif source is self.vm:
                    self.tell({"event": "gone"})
                    return
                elif source in self.clients:
                    packet = source.recv(65536)
                    if not packet:
                        del self.clients[source]
                    elif not self.answer(source, json.loads(packet)):
                        return
            if time.monotonic() >= next_tick:
                next_tick += 1
                self.status["faults"] += 10
                self.status["cold_faults"] += 4
                self.status["stall_ns"] += 1000
                self.status["stall_ratio"] = 0.25
                self.tell({"event": "status", "status": self.status})


def main():
    if sys.argv[1] == "cure":
        if "cure-refuses" in WORDS:
            print("100 pages are still cold", file=sys.stderr)
            return 1
        return 0
    if sys.argv[1] == "probe":
        if "probe-fails" in WORDS:
            print("events is of another version, or damaged", file=sys.stderr)
            return 1
        return 0
    fd = int(option("--ready-fd"))
    pid = int(option("--pid"))
    if "die" in WORDS:
        return 9
    if "silent" in WORDS:
        time.sleep(3600)
    if "garbage" in WORDS:
        ready(fd, "hello")
        return 1
    if "--recover" in sys.argv:
        if "recover-dies" in WORDS:
            return 9
        for word, name in (("recover-refuses", "NotSupported"), ("recover-cured", "NotAttached"), ("recover-late", "Busy")):
            if word in WORDS:
                ready(fd, {"ok": False, "error": {"name": name, "message": "pages are lost with the key"}})
                return 1
    if "refuse" in WORDS:
        ready(fd, {"ok": False, "error": {"name": "NotSupported", "message": "locked memory; remove <locked/>"}})
        return 1
    manager = Manager(pid, option("--state-dir"))
    ready(fd, {"ok": True, "status": manager.status})
    manager.serve()
    if "lingers" in WORDS:
        time.sleep(3600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
