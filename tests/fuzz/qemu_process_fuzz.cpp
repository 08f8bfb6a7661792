// SPDX-License-Identifier: Apache-2.0

// What the daemon reads to find a domain's process: libvirt's pid file, command lines and stat in /proc, one
// after the other, each up to an empty line. The process that is found has the UUID as a word of its own
// after -uuid.

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "daemon/qemu_process.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

class Files {
  public:
    Files() {
        std::filesystem::create_directories(root_ / "proc/123");
        std::filesystem::create_directories(root_ / "proc/self");
    }
    ~Files() { std::filesystem::remove_all(root_); }
    void write(const char* name, std::string_view text) const {
        std::ofstream(root_ / name, std::ios::binary | std::ios::trunc)
            .write(text.data(), static_cast<std::streamsize>(text.size()));
    }
    [[nodiscard]] const std::filesystem::path& root() const { return root_; }

  private:
    std::filesystem::path root_ = "/dev/shm/thermocline-fuzz-proc-" + std::to_string(::getpid());
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Files files;
    static const thermocline::QemuProcesses processes(files.root(), files.root() / "proc");
    thermocline::fuzz::Input input(data, size);
    const std::string uuid = "4fd1be53-0000-4000-8000-000000000000";
    files.write("web1.pid", input.until("\n\n"));
    std::string commandLine(input.until("\n\n"));
    std::replace(commandLine.begin(), commandLine.end(), '\n', '\0');
    files.write("proc/123/cmdline", commandLine);
    files.write("proc/123/stat", input.rest());
    const auto found = processes.find(uuid, "web1");
    THERMOCLINE_HOLDS(!found || (*found == 123 && processes.matches(*found, uuid)));
    THERMOCLINE_HOLDS(found || !processes.matches(123, uuid));
    if (found) THERMOCLINE_HOLDS(commandLine.find(std::string("-uuid\0", 6) + uuid) != std::string::npos);
    (void)processes.startTime(123);
    return 0;
}
