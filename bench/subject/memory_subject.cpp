// SPDX-License-Identifier: Apache-2.0

// A process with memory like a VM's that touches it itself; see subject.h.

#include <vector>

#include "bench/subject/subject.h"

namespace thermocline::bench {
namespace {

class OwnProcess : public Machine {
  public:
    explicit OwnProcess(const VmRam& ram)
        : memory_(BatchArea::bytesFor(ram.bytes() / pageBytes) / 8 + 1),
          area_(reinterpret_cast<std::byte*>(memory_.data()),
                reinterpret_cast<std::uintptr_t>(memory_.data()),
                reinterpret_cast<std::uintptr_t>(ram.data()), ram.bytes() / pageBytes) {}

    BatchArea& area() override { return area_; }
    std::string run() override {
        thermoclineBenchAccess(&area_.batch());
        return {};
    }

  private:
    std::vector<std::uint64_t> memory_;
    BatchArea area_;
};

}  // namespace
}  // namespace thermocline::bench

int main(int argc, char** argv) {
    using namespace thermocline::bench;
    const auto arguments = readArguments(argc, argv);
    const VmRam ram(arguments.bytes, arguments.huge);
    OwnProcess process(ram);
    Subject(ram, process).serve();
    return 0;
}
