// SPDX-License-Identifier: Apache-2.0
#pragma once

// What must outlive a manager besides the pages' entries (page_map.h): the events of the guest's address
// space that were read and may not be applied yet, where guest RAM lies now, and whether it is registered. A
// file of the VM's state directory, mapped by the manager; who has it open holds its lock, and nobody else
// manages the VM.
//
// The kernel lets the thread that caused an event go on as soon as read() has taken the event, so an event
// that a manager has read and not applied must be known to the next one. read() therefore puts its messages
// into the file itself: a SIGKILL takes effect when the call returns to the program, by which time they are
// there. (The pages of the file are present and locked, so copying them there does not fault.) An event
// counts as unapplied until applied(); one that was applied, and not counted before the manager died, is
// applied twice. That is harmless:
//   - REMOVE makes pages absent. Between the two times nothing can have put a page there: the fault thread
//     serves nothing before applied(), and the background thread does nothing with guest pages meanwhile
//     (layout lock).
//   - UNMAP and REMAP change the address map. The new map and the count become valid by the same store.
// Fault thread only, or under the pager's layout lock.

#include <linux/userfaultfd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/address_map.h"

namespace thermocline::memory {

class EventJournal {
  public:
    static constexpr std::size_t mostMessages = 64;
    /// Guest RAM in more pieces than that cannot be recovered.
    static constexpr std::size_t mostExtents = 500;

    /// A new file `path` (mode 0600). Error: systemError, outOfMemory.
    static Result<EventJournal> create(const std::string& path, const AddressMap& addresses);
    /// What a manager that is dead by now has left. Waits a while for its end. Errors: busy where a manager
    /// lives that has it open; notSupported where there is more than it can hold, or another format.
    static Result<EventJournal> open(const std::string& path);
    /// Whether open() would understand it, whoever has it. Error: notSupported, systemError.
    static Result<void> check(const std::string& path);
    EventJournal(EventJournal&& other) noexcept;
    EventJournal& operator=(EventJournal&&) = delete;
    ~EventJournal();

    /// Where messages are to be read to. REQUIRES: forget() since the last read.
    [[nodiscard]] std::span<uffd_msg> buffer();
    /// Guest RAM lies there from the next applied() on.
    void addresses(const AddressMap& addresses);
    /// The messages up to this index are applied.
    void applied(std::size_t index);
    /// All `count` messages of the last read are dealt with.
    void forget(std::size_t count);

    /// Is guest RAM registered, and the page map therefore true?
    [[nodiscard]] bool registered() const;
    void setRegistered(bool registered);

    /// What the dead manager left: index of the first message that may not be applied, and one behind the
    /// last.
    struct Unapplied {
        std::size_t first;
        std::size_t end;
    };
    [[nodiscard]] Unapplied unapplied() const;
    [[nodiscard]] AddressMap addressMap() const;

  private:
    struct Record;
    struct File;
    EventJournal(UniqueFd fd, File* file) : fd_(std::move(fd)), file_(file) {}
    static Result<EventJournal> map(UniqueFd fd, const std::string& path);
    void write(Record& record, const AddressMap& addresses);

    UniqueFd fd_;
    File* file_;
    bool moved_ = false;  // the record that is not current has the address map of the next applied()
};

}  // namespace thermocline::memory
