// SPDX-License-Identifier: Apache-2.0
#pragma once

// Attaching to a running process and leaving it again. Life cycle:
//   1. stop     ptrace stops the main thread only; the vCPUs run on
//   2. prepare  a scratch mapping; a socket pair through which /dev/userfaultfd, the agent's code (a sealed
//   memfd) and the
//               control pages (a memfd) are handed over: neither paths nor sysctls of the VM's side matter
//   3. infect   two userfaultfds, the mappings of code, control pages and staging area, one thread per lane
//   4. resume   registers and signal mask restored; steps 1 to 4 take about a millisecond
//   5. cure     threads told to leave, ranges unregistered by the manager; then stop again, unmap, close,
//   resume
// What was put in is written down in a Footprint, so that any privileged process can cure without the
// manager: from the first on in the process itself, behind its control pages. Free functions, thread-safe for
// different processes.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/footprint.h"
#include "memory/guest_files.h"
#include "memory/mechanism.h"
#include "memory/page.h"

namespace thermocline::memory {

/// Addresses inside the staging reservation: the page with number p is staged at page(p); behind the staging
/// area each lane has a block that dropped pages are moved to, and one where fresh huge pages are made.
/// Nothing of the VM knows of it.
class StagingArea {
  public:
    StagingArea(VmRange reservation, std::uint64_t blocks);
    static std::uint64_t bytesFor(std::uint64_t blocks);

    [[nodiscard]] VmAddress page(PageNumber page) const { return base_ + page * pageBytes; }
    [[nodiscard]] VmRange staging() const { return {base_, blocks_ * blockBytes}; }
    [[nodiscard]] VmRange drops() const { return {staging().end(), laneCount * blockBytes}; }
    [[nodiscard]] VmRange drop(std::size_t lane) const {
        return {drops().start + lane * blockBytes, blockBytes};
    }
    [[nodiscard]] VmRange fresh(std::size_t lane) const {
        return {drops().end() + lane * blockBytes, blockBytes};
    }

  private:
    VmAddress base_;
    std::uint64_t blocks_;
};

/// An attached process, seen from the manager. The descriptors work without any privilege.
struct Attachment {
    Footprint footprint;
    UniqueFd process;  ///< pidfd
    UniqueFd guestUffd;
    UniqueFd dropUffd;
    UniqueFd control;            ///< memfd of the control pages
    UniqueFd memory;             ///< /proc/PID/mem, read and write
    UniqueFd pagemap;            ///< /proc/PID/pagemap
    UniqueFd status;             ///< /proc/PID/status
    GuestFiles files;            ///< Mechanism::unmap: those behind guest RAM
    std::vector<UniqueFd> kept;  ///< reattach(): what attach() had kept open; not to be trusted
};

/// Steps 1 to 4 for a process whose memory `guestRam` is to be managed in `blocks` blocks. The process keeps
/// copies of the descriptors `keep` open (at most mostKept) for reattach(), or none of them where a security
/// module does not let it. On error everything has been undone. Errors: processGone, permissionDenied, busy,
/// notSupported, systemError.
inline constexpr std::size_t mostKept = 2;
Result<Attachment> attach(pid_t pid, const std::vector<VmRange>& guestRam, std::uint64_t blocks,
                          Mechanism mechanism = Mechanism::move, const std::vector<int>& keep = {},
                          const std::string& userfaultfdDevice = "/dev/userfaultfd");

/// From now on undoUnfinished() leaves the process alone: whoever is to cure it has its footprint elsewhere.
void markFinished(const Attachment& attachment);

/// Takes out again what a manager put in that was killed before markFinished(), as far as it had noted that
/// in the process: what a single system call made just before may stay, without use or harm. Nothing to do
/// where nothing was put in. REQUIRES: that manager is dead. Errors: processGone; busy for an attachment that
/// is finished; as of attach().
Result<void> undoUnfinished(pid_t pid);

/// A process that another manager attached, which is dead by now. Needs the privileges that attach() does,
/// and changes nothing. Errors: processGone; notAttached where it no longer holds the descriptors.
Result<Attachment> reattach(const Footprint& footprint);

/// The last part of step 5: unmaps and closes what `footprint` lists. REQUIRES: nothing is staged or cold any
/// more and the agent threads have been told to leave; waits for them. processGone where the process is no
/// longer that one (nothing to do).
Result<void> cure(const Footprint& footprint);

/// Number, in the process, of the control memfd of an attachment; nothing where the process is not attached.
std::optional<int> findAttachedDescriptor(pid_t pid);

}  // namespace thermocline::memory
