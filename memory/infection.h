// SPDX-License-Identifier: Apache-2.0
#pragma once

// What an attach (memory/attachment.h) puts into the VM's process and takes out of it again: descriptors,
// mappings, agent threads; and the note of it that lies in the process itself, behind the control pages,
// which whoever comes after a manager that was killed goes by. Not for more than one thread per process.

#include <string>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/footprint.h"

namespace thermocline::memory {

struct Attachment;
class RemoteProcess;

/// Name of the memfd of the control pages, by which an attached process is known.
inline constexpr const char* controlName = "thermocline-control";

/// The agent's code, as a sealed memfd.
Result<UniqueFd> agentCode();
/// A memfd that holds the control pages and the note.
Result<UniqueFd> controlPages();
/// A copy of the process's descriptor `number`.
Result<UniqueFd> takeDescriptor(const UniqueFd& process, int number);

/// Puts everything in; see attach(). On error, what was done by then is in the footprint, for takeOut().
Result<void> infect(RemoteProcess& remote, Attachment& attachment, int userfaultfdDevice, int code,
                    std::uint64_t blocks, const std::vector<int>& keep);

struct Note {
    Footprint footprint;  ///< without guest RAM
    bool finished = false;
};
/// Best effort. Of what is not written down, a mapping or a descriptor stays in the process.
void writeNote(const UniqueFd& control, const Note& note);
/// Whoever runs in the VM's process can write it: nothing that it says may be used outside of that process.
/// Errors: busy where there is none yet; systemError where it is damaged.
Result<Note> readNote(const UniqueFd& control);

/// Adds what the last recvmsg() or clone() of a manager made that died before it wrote that down: the kernel
/// has, in the scratch mapping.
Result<void> addUnnoted(RemoteProcess& remote, Footprint& footprint, int controlFd);
/// Tells agent threads to end that wait in their lanes.
void dismissAgents(const UniqueFd& control, const Footprint& footprint);
/// Error: busy after five seconds.
Result<void> awaitThreadsEnd(const Footprint& footprint);
/// Closes and unmaps what the note lists. REQUIRES: the threads have ended. May be killed at any instant, and
/// done again by what the note says then.
Result<void> takeOut(RemoteProcess& remote, Note note, const UniqueFd& control);

}  // namespace thermocline::memory
