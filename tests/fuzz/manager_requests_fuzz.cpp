// SPDX-License-Identifier: Apache-2.0

// Packets to a manager that has a real process attached: whatever comes, each is answered, and the manager
// serves on. Packets end with an empty line; a detach would end the manager and is left out.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "memory/manager/control_server.h"
#include "memory/testing/subject_process.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace thermocline;

class Manager {
  public:
    Manager() {
        std::filesystem::create_directory(directory_);
        server_ = std::move(manager::ControlServer::listen(directory_ + "/manager.sock").value());
        memory::VmMemory::Options options;
        options.pid = subject_.pid();
        options.guestRam = subject_.guestRam();
        options.stateDirectory = directory_;
        options.processEnded = [this] { server_->processEnded(); };
        vm_ = std::move(memory::VmMemory::attach(std::move(options)).value());
        vm_->start();
        thread_ = std::thread([this] { server_->run(*vm_); });
        connect();
        std::filesystem::remove_all(directory_);  // whatever ends this process, no file stays
    }
    ~Manager() {
        subject_.kill();
        thread_.join();
    }
    Manager(const Manager&) = delete;
    Manager& operator=(const Manager&) = delete;

    /// The answer, which has to come; events are dropped.
    nlohmann::json call(std::string_view packet) {
        THERMOCLINE_HOLDS(::send(socket_, packet.data(), packet.size(), MSG_NOSIGNAL) >= 0);
        static std::array<char, 4 * manager::maxPacketBytes> buffer;
        for (;;) {
            const auto count = ::recv(socket_, buffer.data(), buffer.size(), 0);
            if (count < 0 && errno == EINTR) continue;  // libFuzzer's clock
            THERMOCLINE_HOLDS(count > 0);
            auto answer = nlohmann::json::parse(buffer.data(), buffer.data() + count);
            if (!answer.contains("event")) return answer;
        }
    }

  private:
    void connect() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, (directory_ + "/manager.sock").c_str(), sizeof address.sun_path - 1);
        socket_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        THERMOCLINE_HOLDS(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                          0);
    }

    std::string directory_ = "/dev/shm/thermocline-fuzz-manager-" + std::to_string(::getpid());
    memory::testing::SubjectProcess subject_{32U << 20, true};
    std::unique_ptr<manager::ControlServer> server_;
    std::unique_ptr<memory::VmMemory> vm_;
    std::thread thread_;
    int socket_ = -1;
};

bool detaches(std::string_view packet) {
    const auto json = nlohmann::json::parse(packet, nullptr, false);
    return json.is_object() && json.value("method", nlohmann::json()) == "detach";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Manager manager;
    fuzz::Input input(data, size);
    for (int i = 0; i < 8 && !input.empty(); ++i) {
        const auto packet = input.until("\n\n");
        if (packet.empty() || packet.size() > manager::maxPacketBytes || detaches(packet)) continue;
        const auto answer = manager.call(packet);
        THERMOCLINE_HOLDS(answer.contains("id") && answer.contains("result") != answer.contains("error"));
    }
    const auto alive = manager.call(R"({"id": 1, "method": "status"})");
    THERMOCLINE_HOLDS(alive.at("id") == 1 && alive.at("result").at("state") == "attached");
    return 0;
}
