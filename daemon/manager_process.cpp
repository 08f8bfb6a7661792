// SPDX-License-Identifier: Apache-2.0
#include "daemon/manager_process.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <utility>

namespace thermocline {
namespace {

constexpr int readyFd = 3;
constexpr int errorFd = 2;

tl::unexpected<AttachFailure> failAttach(ErrorCode code, std::string message, bool clean) {
    return tl::unexpected<AttachFailure>(AttachFailure{Error{code, std::move(message)}, clean});
}

tl::expected<manager::Status, AttachFailure> parseReady(const std::string& line) {
    try {
        const auto json = nlohmann::json::parse(line);
        if (json.at("ok").get<bool>()) return json.at("status").get<manager::Status>();
        return tl::unexpected<AttachFailure>(AttachFailure{manager::errorFromJson(json.at("error")), true});
    } catch (const nlohmann::json::exception& error) {
        return failAttach(
            ErrorCode::internal,
            line.empty() ? "the manager process ended before it said that it was ready"
                         : fmt::format("the manager process said what is not understood: {}", error.what()),
            false);
    }
}

/// As `thermocline-manager run` takes it.
void append(std::vector<std::string>& argv, const FileTier& tier) {
    if (tier.directory.empty()) return;
    const auto option = [&](const char* name, const auto& value) {
        if (value) argv.insert(argv.end(), {name, fmt::format("{}", *value)});
    };
    argv.insert(argv.end(), {"--file-tier-dir", tier.directory.string()});
    option("--file-tier-max", tier.maxBytes);
    option("--file-tier-per-day", tier.maxBytesPerDay);
    option("--file-tier-age", tier.ageSeconds);
}

/// Likewise.
void append(std::vector<std::string>& argv, const PolicyFile& policy) {
    if (policy.file.empty()) return;
    argv.insert(argv.end(), {"--policy", policy.file.string()});
    for (const auto& option : policy.options)
        argv.insert(argv.end(), {"--policy-option", option});
    if (!policy.directory.empty()) argv.insert(argv.end(), {"--policy-dir", policy.directory.string()});
}

std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
        text.pop_back();
    return text;
}

}  // namespace

struct ManagerProcesses::Child {
    std::unique_ptr<ChildProcess> process;
    EventLoop::Source timeout;
    bool timedOut = false;
    std::string output;
    std::function<void(Child&)> onOutput;
    std::function<void(Child&, int)> onExit;
    std::function<void(Error)> onFailedStart;
};

ManagerProcesses::ManagerProcesses(EventLoop& loop, std::filesystem::path executable,
                                   std::chrono::milliseconds timeout, FileTier fileTier, PolicyFile policy,
                                   std::optional<memory::Mechanism> mechanism)
    : loop_(loop),
      executable_(std::move(executable)),
      timeout_(timeout),
      fileTier_(std::move(fileTier)),
      policy_(std::move(policy)),
      mechanism_(mechanism) {}

ManagerProcesses::~ManagerProcesses() = default;

void ManagerProcesses::start(Children::iterator child, const std::vector<std::string>& argv, int outputFd) {
    ChildProcess::Handlers handlers;
    handlers.onOutput = [child](std::string output) {
        (*child)->output = std::move(output);
        (*child)->onOutput(**child);
    };
    handlers.onExit = [this, child](int status) {
        // Out of the list first: the callback may start the next process.
        const std::shared_ptr<Child> ended = std::move(*child);
        children_.erase(child);
        ended->timeout.reset();
        ended->onExit(*ended, status);
        loop_.post([ended] {});  // this runs inside its process' handler
    };
    auto process = ChildProcess::spawn(loop_, argv, outputFd, std::move(handlers));
    if (!process) {
        // Answer from the loop, as in every other case, not from within the caller's call.
        loop_.post([this, child, error = process.error()] {
            const auto ended = std::move(*child);
            children_.erase(child);
            ended->onFailedStart(error);
        });
        return;
    }
    (*child)->process = std::move(*process);
    (*child)->timeout = loop_.after(timeout_, [child, path = argv.front()] {
        spdlog::error("{} (process {}) did not answer in time; killing it", path, (*child)->process->pid());
        (*child)->timedOut = true;
        (*child)->process->sendSignal(SIGKILL);
    });
}

void ManagerProcesses::run(pid_t vm, const std::filesystem::path& stateDirectory, const std::string& name,
                           RunDone done, bool recover) {
    const auto child = children_.insert(children_.end(), std::make_unique<Child>());
    // The ready line decides an attach; the exit decides it only where no good line came.
    const auto answered = std::make_shared<bool>(false);
    (*child)->onOutput = [answered, done](Child& self) {
        auto ready = parseReady(self.output);
        if (!ready) return;  // it is about to end; the answer is given when it is gone
        self.timeout.reset();
        *answered = true;
        done(std::move(*ready));
    };
    (*child)->onExit = [answered, done, path = executable_.string()](Child& self, int status) {
        if (*answered) {
            spdlog::debug("{} (process {}) {}", path, self.process->pid(), describeWaitStatus(status));
            return;
        }
        auto ready = parseReady(self.output);
        if (!ready && ready.error().clean) return done(std::move(ready));
        done(failAttach(ErrorCode::internal,
                        self.timedOut ? fmt::format("{} did not get ready in time and was killed", path)
                                      : fmt::format("{} {} before it was ready; its log says why", path,
                                                    describeWaitStatus(status)),
                        false));
    };
    (*child)->onFailedStart = [done](Error error) {
        done(failAttach(
            ErrorCode::systemError,
            fmt::format("{}; check the daemon's --manager option and the installation", error.message),
            true));
    };
    std::vector<std::string> argv{
        executable_.string(),    "run",    "--pid", std::to_string(vm), "--state-dir",
        stateDirectory.string(), "--name", name,    "--ready-fd",       std::to_string(readyFd)};
    if (recover) argv.emplace_back("--recover");
    append(argv, fileTier_);
    append(argv, policy_);
    if (mechanism_) argv.insert(argv.end(), {"--mechanism", std::string(memory::mechanismName(*mechanism_))});
    start(child, argv, readyFd);
}

void ManagerProcesses::cure(pid_t vm, const std::filesystem::path& stateDirectory, CureDone done) {
    runToEnd(
        {executable_.string(), "cure", "--pid", std::to_string(vm), "--state-dir", stateDirectory.string()},
        std::move(done));
}

void ManagerProcesses::check(const std::filesystem::path& stateDirectory, CureDone done) {
    runToEnd({executable_.string(), "probe", "--state-dir", stateDirectory.string()}, std::move(done));
}

bool ManagerProcesses::isInstalled(pid_t manager) const {
    // Of a program that was replaced /proc has the old file still, which has no name any more.
    struct stat running {};
    struct stat installed {};
    if (::stat(fmt::format("/proc/{}/exe", manager).c_str(), &running) != 0 ||
        ::stat(executable_.c_str(), &installed) != 0)
        return true;
    return running.st_dev == installed.st_dev && running.st_ino == installed.st_ino;
}

/// The error has what it wrote to stderr.
void ManagerProcesses::runToEnd(std::vector<std::string> argv, CureDone done) {
    const auto child = children_.insert(children_.end(), std::make_unique<Child>());
    (*child)->onOutput = [](Child&) {};
    (*child)->onExit = [done, command = argv.at(0) + " " + argv.at(1)](Child& self, int status) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return done({});
        done(fail(
            ErrorCode::systemError,
            fmt::format("{} {}{}{}", command,
                        self.timedOut ? "did not end in time and was killed" : describeWaitStatus(status),
                        self.output.empty() ? "" : ": ", trimmed(self.output))));
    };
    (*child)->onFailedStart = [done](Error error) { done(tl::unexpected<Error>(std::move(error))); };
    start(child, argv, errorFd);
}

}  // namespace thermocline
