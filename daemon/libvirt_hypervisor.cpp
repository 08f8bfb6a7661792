// SPDX-License-Identifier: Apache-2.0
#include "daemon/libvirt_hypervisor.h"

#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/domain_xml.h"
#include "daemon/overcommit_xml.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

constexpr auto firstRetry = 500ms;
constexpr std::chrono::milliseconds lastRetry = 10s;
constexpr auto copyLook = 500ms;
// Three missed answers five seconds apart: libvirtd is taken for dead after 20 s.
constexpr int keepAliveSeconds = 5;
constexpr unsigned keepAliveCount = 3;

/// A connection and what is registered on it. libvirt keeps callbacks of a
/// connection that is closed without taking them back, so they are taken back here.
class Connection {
  public:
    explicit Connection(virConnectPtr handle) : handle_(handle) {}
    Connection(Connection&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)),
          events_(std::move(other.events_)),
          onClose_(std::exchange(other.onClose_, nullptr)) {}
    Connection& operator=(Connection&&) = delete;
    Connection(const Connection&) = delete;
    ~Connection() {
        if (handle_ == nullptr) return;
        for (const int id : events_)
            virConnectDomainEventDeregisterAny(handle_, id);
        if (onClose_ != nullptr) virConnectUnregisterCloseCallback(handle_, onClose_);
        virConnectClose(handle_);
    }

    [[nodiscard]] virConnectPtr get() const { return handle_; }
    /// False where libvirt refuses; then `opaque` is still the caller's, else `freeOpaque` frees it.
    bool onDomainEvent(int id, virConnectDomainEventGenericCallback callback, void* opaque,
                       virFreeCallback freeOpaque) {
        const int event =
            virConnectDomainEventRegisterAny(handle_, nullptr, id, callback, opaque, freeOpaque);
        if (event >= 0) events_.push_back(event);
        return event >= 0;
    }
    /// REQUIRES: `opaque` outlives the connection.
    void onClose(virConnectCloseFunc callback, void* opaque) {
        if (virConnectRegisterCloseCallback(handle_, callback, opaque, nullptr) == 0) onClose_ = callback;
    }

  private:
    virConnectPtr handle_;
    std::vector<int> events_;
    virConnectCloseFunc onClose_ = nullptr;
};
struct FreeDomain {
    void operator()(virDomainPtr domain) const { virDomainFree(domain); }
};
using DomainHandle = std::unique_ptr<virDomain, FreeDomain>;

std::string lastError() {
    const virErrorPtr error = virGetLastError();
    return error != nullptr && error->message != nullptr ? error->message : "unknown libvirt error";
}

/// libvirt wants its event loop to run from its registration
/// to the end of the process, so this thread is never joined.
bool runEventLoopForEver() {
    virSetErrorFunc(nullptr, [](void* /*data*/, virErrorPtr error) {  // the default prints to stderr
        spdlog::debug("libvirt: {}", error != nullptr && error->message != nullptr ? error->message : "");
    });
    if (virEventRegisterDefaultImpl() != 0) return false;
    std::thread([] {
        while (virEventRunDefaultImpl() == 0) {
        }
        spdlog::critical("libvirt's event loop ended: {}", lastError());
    }).detach();
    return true;
}

std::string uuidOf(virDomainPtr domain) {
    std::array<char, VIR_UUID_STRING_BUFLEN> text{};
    return virDomainGetUUIDString(domain, text.data()) == 0 ? std::string(text.data()) : std::string();
}

/// Of the domain that runs, else of its definition. Drivers that know no metadata have none.
std::optional<std::string> overcommitOf(virDomainPtr domain, bool active) {
    const std::unique_ptr<char, void (*)(void*)> element(
        virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, metadataNamespace,
                             active ? VIR_DOMAIN_AFFECT_LIVE : VIR_DOMAIN_AFFECT_CONFIG),
        &free);
    return element != nullptr ? std::optional<std::string>(element.get()) : std::nullopt;
}

/// Is a job under way that reads all of its memory? REQUIRES: one was heard of. (To ask of any other domain
/// could mean to wait for a monitor that does not answer.)
bool isCopiedOut(virDomainPtr domain) {
    virDomainJobInfo job{};
    return virDomainGetJobInfo(domain, &job) == 0 &&
           (job.type == VIR_DOMAIN_JOB_BOUNDED || job.type == VIR_DOMAIN_JOB_UNBOUNDED);
}

/// REQUIRES: it is active.
void describeActivity(int state, int reason, DomainInfo& info) {
    using memory::Activity;
    switch (state) {
        case VIR_DOMAIN_RUNNING:
            info.migratingIn =
                reason == VIR_DOMAIN_RUNNING_POSTCOPY || reason == VIR_DOMAIN_RUNNING_POSTCOPY_FAILED;
            return;
        case VIR_DOMAIN_PAUSED:
            switch (reason) {
                // Of the source as of the destination: a VM that was attached before is the source.
                case VIR_DOMAIN_PAUSED_MIGRATION:
                case VIR_DOMAIN_PAUSED_POSTCOPY:
                case VIR_DOMAIN_PAUSED_POSTCOPY_FAILED:
                    info.migratingIn = true;
                    info.activity = Activity::copiedOut;
                    return;
                case VIR_DOMAIN_PAUSED_STARTING_UP:
                    info.migratingIn = true;
                    return;
                case VIR_DOMAIN_PAUSED_SAVE:
                case VIR_DOMAIN_PAUSED_DUMP:
                case VIR_DOMAIN_PAUSED_SNAPSHOT:
                    info.activity = Activity::copiedOut;
                    return;
                default:
                    info.activity = Activity::paused;
                    return;
            }
        case VIR_DOMAIN_CRASHED:
        case VIR_DOMAIN_PMSUSPENDED:
            info.activity = Activity::paused;
            return;
        default:
            return;
    }
}

/// What libvirt's last call was refused for. To be asked at once: the next call, were it one that only frees
/// something, forgets it.
Error refusal() {
    const virErrorPtr error = virGetLastError();
    const bool unknown = error != nullptr && error->code == VIR_ERR_NO_DOMAIN;
    return {unknown ? ErrorCode::noSuchDomain : ErrorCode::systemError, lastError()};
}

Result<DomainInfo> describe(virDomainPtr domain, bool mayHaveJob = false) {
    DomainInfo info;
    info.uuid = uuidOf(domain);
    virDomainInfo figures{};
    int state = 0;
    int reason = 0;
    const int active = virDomainIsActive(domain);
    if (active < 0 || virDomainGetInfo(domain, &figures) != 0 ||
        virDomainGetState(domain, &state, &reason, 0) != 0)
        return tl::unexpected<Error>(refusal());
    info.memoryBytes = std::uint64_t{figures.maxMem} * 1024;
    info.running = active == 1;
    info.overcommit = overcommitOf(domain, info.running);
    const std::unique_ptr<char, void (*)(void*)> xml(virDomainGetXMLDesc(domain, 0), &free);
    if (xml == nullptr) return tl::unexpected<Error>(refusal());
    auto read = readDomainXml(xml.get());
    // Not the handle's: that of a domain that was renamed may have the old one.
    info.name = read.name.empty() ? virDomainGetName(domain) : std::move(read.name);
    info.metadata = std::move(read.metadata);
    info.hardLimitBytes = read.hardLimitBytes;
    if (info.running) {
        const auto id = virDomainGetID(domain);
        info.id = id == static_cast<unsigned>(-1) ? 0 : static_cast<int>(id);
        describeActivity(state, reason, info);
        if (mayHaveJob && isCopiedOut(domain)) info.activity = memory::Activity::copiedOut;
    }
    return info;
}

}  // namespace

/// Shared between the object, its thread and libvirt's callbacks; `mutex` guards what is below it.
struct LibvirtHypervisor::Worker : std::enable_shared_from_this<Worker> {
    Worker(EventLoop& coreLoop, std::string connectUri) : loop(coreLoop), uri(std::move(connectUri)) {}

    EventLoop& loop;
    const std::string uri;

    std::mutex mutex;
    std::condition_variable changed;
    Hypervisor::Listener* listener = nullptr;
    bool stopping = false;
    bool ended = false;
    bool closed = false;  ///< libvirt said that the connection broke
    bool connected = false;
    enum class Kind { lifecycle, reboot, metadata, job };
    struct Event {
        DomainHandle domain;
        Kind kind = Kind::lifecycle;
    };
    std::deque<Event> events;
    /// Domains that a job reads the memory of, as far as we know: its end is not always told. The worker's
    /// thread's alone.
    std::map<std::string, DomainHandle> copied;
    struct Write {
        std::string uuid;
        std::optional<std::string> element;
        std::function<void(Result<void>)> done;
        bool suspend = false;  ///< no metadata: its processors
    };
    std::deque<Write> writes;

    void answer(std::function<void(Result<void>)> done, Result<void> result) {
        tell([done = std::move(done), result = std::move(result)](Hypervisor::Listener&) { done(result); });
    }
    /// Runs `call` with the listener on the core loop, unless the hypervisor was destroyed meanwhile.
    template <typename Call>
    void tell(Call call) {
        const std::lock_guard lock(mutex);
        if (stopping) return;  // the loop may be gone
        loop.post([self = shared_from_this(), call = std::move(call)] {
            Hypervisor::Listener* target = nullptr;
            {
                const std::lock_guard inner(self->mutex);
                if (!self->stopping) target = self->listener;
            }
            if (target != nullptr) call(*target);
        });
    }

    void run();
    std::string serve();
    void handle(Event event);
    void tell(const std::string& uuid, const Result<DomainInfo>& info, Kind kind);
    void lookAtCopied();
    void handle(virConnectPtr connection, Write write);
    void suspend(virDomainPtr domain, std::function<void(Result<void>)> done);
    void add(Write write);
    void refuseWrites(const std::string& why);
    std::optional<Connection> connect(std::string& why);

    // libvirt's callbacks, on its event thread. The opaque pointer of domain events owns a share
    // of the worker: libvirt may still hold one for a moment after the connection was closed.
    using Share = std::shared_ptr<Worker>;
    Share* share() { return new Share(shared_from_this()); }
    static void freeShare(void* opaque) { delete static_cast<Share*>(opaque); }
    static void onClose(virConnectPtr, int, void* opaque) {
        auto& self = *static_cast<Worker*>(opaque);
        const std::lock_guard lock(self.mutex);
        self.closed = true;
        self.changed.notify_all();
    }
    static void enqueue(virDomainPtr domain, Kind kind, void* opaque) {
        auto& self = **static_cast<Share*>(opaque);
        virDomainRef(domain);
        const std::lock_guard lock(self.mutex);
        self.events.push_back(Event{DomainHandle(domain), kind});
        self.changed.notify_all();
    }
    static int onLifecycle(virConnectPtr, virDomainPtr domain, int, int, void* opaque) {
        enqueue(domain, Kind::lifecycle, opaque);
        return 0;
    }
    static void onReboot(virConnectPtr, virDomainPtr domain, void* opaque) {
        enqueue(domain, Kind::reboot, opaque);
    }
    static void onIteration(virConnectPtr, virDomainPtr domain, int, void* opaque) {
        enqueue(domain, Kind::job, opaque);
    }
    static void onJobCompleted(virConnectPtr, virDomainPtr domain, virTypedParameterPtr, int, void* opaque) {
        enqueue(domain, Kind::job, opaque);
    }
    static void onMetadata(virConnectPtr, virDomainPtr domain, int type, const char* uri, void* opaque) {
        if (type == VIR_DOMAIN_METADATA_ELEMENT && uri != nullptr &&
            std::string_view(uri) == metadataNamespace)
            enqueue(domain, Kind::metadata, opaque);
    }
};

std::optional<Connection> LibvirtHypervisor::Worker::connect(std::string& why) {
    const virConnectPtr handle = virConnectOpenAuth(uri.c_str(), virConnectAuthPtrDefault, 0);
    if (handle == nullptr) {
        why = fmt::format(
            "cannot connect to libvirt at {}: {}; start libvirtd (systemctl start libvirtd, or libvirtd -d)",
            uri, lastError());
        return std::nullopt;
    }
    Connection connection(handle);
    // Drivers inside this process (test:///) know neither a keep-alive nor a close; they cannot be lost.
    virConnectSetKeepAlive(handle, keepAliveSeconds, keepAliveCount);
    // No share: drivers without the callback accept it and never
    // free it, and once it is taken back it is not called.
    connection.onClose(&onClose, this);
    struct Subscription {
        int id;
        virConnectDomainEventGenericCallback callback;
    };
    for (const auto& [id, callback] :
         {Subscription{VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(&onLifecycle)},
          Subscription{VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(&onReboot)},
          Subscription{VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(&onMetadata)},
          // The first pass over a domain's memory is the beginning of a job; libvirt tells no other.
          Subscription{VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VIR_DOMAIN_EVENT_CALLBACK(&onIteration)},
          Subscription{VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(&onJobCompleted)}}) {
        auto* const opaque = share();
        if (connection.onDomainEvent(id, callback, opaque, &freeShare)) continue;
        freeShare(opaque);
        // Without the others we only hear of less, or later; without the life cycle we would be blind.
        if (id != VIR_DOMAIN_EVENT_ID_LIFECYCLE) continue;
        why = fmt::format("libvirt at {} does not tell of its domains: {}", uri, lastError());
        return std::nullopt;
    }
    return connection;
}

void LibvirtHypervisor::Worker::handle(Event event) {
    const std::string uuid = uuidOf(event.domain.get());
    if (event.kind == Kind::reboot) return tell([uuid](auto& target) { target.domainRebooted(uuid); });
    const bool mayHaveJob = event.kind == Kind::job || copied.contains(uuid);
    const auto info = describe(event.domain.get(), mayHaveJob);
    if (info && info->activity == memory::Activity::copiedOut)
        copied.insert_or_assign(uuid, std::move(event.domain));
    else
        copied.erase(uuid);
    tell(uuid, info, event.kind);
}

void LibvirtHypervisor::Worker::tell(const std::string& uuid, const Result<DomainInfo>& info, Kind kind) {
    if (info)
        return tell([info = *info, kind](auto& target) {
            kind == Kind::metadata ? target.domainMetadataChanged(info) : target.domainChanged(info);
        });
    if (info.error().code == ErrorCode::noSuchDomain)
        tell([uuid](auto& target) { target.domainRemoved(uuid); });
    // Any other error: the connection is breaking, and the next one begins with the whole list.
}

/// A job that is cancelled, or fails, ends without a word.
void LibvirtHypervisor::Worker::lookAtCopied() {
    for (auto at = copied.begin(); at != copied.end();) {
        const auto info = describe(at->second.get(), true);
        tell(at->first, info, Kind::job);
        at = info && info->activity == memory::Activity::copiedOut ? std::next(at) : copied.erase(at);
    }
}

void LibvirtHypervisor::Worker::handle(virConnectPtr connection, Write write) {
    const DomainHandle domain(virDomainLookupByUUIDString(connection, write.uuid.c_str()));
    if (domain == nullptr) return answer(std::move(write.done), tl::unexpected<Error>(refusal()));
    if (write.suspend) return suspend(domain.get(), std::move(write.done));
    unsigned flags = 0;
    if (virDomainIsActive(domain.get()) == 1) flags |= VIR_DOMAIN_AFFECT_LIVE;
    if (virDomainIsPersistent(domain.get()) == 1) flags |= VIR_DOMAIN_AFFECT_CONFIG;
    const int status = virDomainSetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT,
                                            write.element ? write.element->c_str() : nullptr, metadataKey,
                                            metadataNamespace, flags);
    answer(std::move(write.done),
           status == 0 ? Result<void>() : fail(ErrorCode::systemError, "set its metadata: " + lastError()));
}

/// On a thread of its own: QEMU answers only once all of its processors have stopped, and one that waits for
/// a page may never.
void LibvirtHypervisor::Worker::suspend(virDomainPtr domain, std::function<void(Result<void>)> done) {
    virDomainRef(domain);
    std::thread([self = shared_from_this(), held = DomainHandle(domain), done = std::move(done)]() mutable {
        const int status = virDomainSuspend(held.get());
        self->answer(std::move(done),
                     status == 0 ? Result<void>() : fail(ErrorCode::systemError, "suspend: " + lastError()));
    }).detach();
}

/// REQUIRES: nothing is added any more, so not connected.
void LibvirtHypervisor::Worker::refuseWrites(const std::string& why) {
    std::deque<Write> refused;
    {
        const std::lock_guard lock(mutex);
        refused.swap(writes);
    }
    for (auto& write : refused)
        answer(std::move(write.done), fail(ErrorCode::hypervisorUnavailable, why));
}

/// One connection, from opening it to its end; says why it ended or could not be had.
std::string LibvirtHypervisor::Worker::serve() {
    {
        const std::lock_guard lock(mutex);
        closed = false;
        events.clear();
    }
    copied.clear();
    std::string why;
    const auto connection = connect(why);
    if (!connection) return why;

    // Events are registered before the list is read, so nothing falls between the two.
    virDomainPtr* handles = nullptr;
    const int count = virConnectListAllDomains(connection->get(), &handles, 0);
    if (count < 0) return fmt::format("libvirt at {} does not list its domains: {}", uri, lastError());
    std::vector<DomainInfo> domains;
    for (int i = 0; i < count; ++i) {
        const DomainHandle domain(handles[i]);
        if (auto info = describe(domain.get())) domains.push_back(std::move(*info));
    }
    free(handles);  // NOLINT: libvirt's allocation
    {
        const std::lock_guard lock(mutex);
        connected = true;  // first: who hears of it may want to write
    }
    tell([domains = std::move(domains)](auto& target) { target.hypervisorConnected(domains); });

    std::unique_lock lock(mutex);
    while (true) {
        const auto due = [this] { return stopping || closed || !events.empty() || !writes.empty(); };
        if (copied.empty()) {
            changed.wait(lock, due);
        } else if (!changed.wait_for(lock, copyLook, due)) {
            lock.unlock();
            lookAtCopied();
            lock.lock();
            continue;
        }
        // Before events: those that are waiting were not caused by it. And before the end, if that is not
        // held up long.
        if (!closed && !writes.empty()) {
            Write write = std::move(writes.front());
            writes.pop_front();
            lock.unlock();
            handle(connection->get(), std::move(write));
            lock.lock();
            continue;
        }
        if (stopping) return "stopping";
        if (events.empty())
            return fmt::format("the connection to libvirt at {} broke; waiting for libvirtd to come back",
                               uri);
        Event event = std::move(events.front());
        events.pop_front();
        lock.unlock();
        handle(std::move(event));
        lock.lock();
    }
}

void LibvirtHypervisor::Worker::run() {
    std::chrono::milliseconds delay = firstRetry;
    std::unique_lock lock(mutex);
    while (!stopping) {
        lock.unlock();
        const auto began = std::chrono::steady_clock::now();
        const std::string why = serve();
        {
            const std::lock_guard inner(mutex);
            connected = false;
        }
        refuseWrites(why);
        const bool lasted = std::chrono::steady_clock::now() - began > lastRetry;
        tell([why](auto& target) { target.hypervisorLost(why); });
        lock.lock();
        delay = lasted ? firstRetry : delay;
        changed.wait_for(lock, delay, [this] { return stopping; });
        delay = std::min(delay * 2, lastRetry);
    }
    ended = true;
    changed.notify_all();
}

LibvirtHypervisor::LibvirtHypervisor(EventLoop& loop, std::string uri)
    : worker_(std::make_shared<Worker>(loop, std::move(uri))) {}

void LibvirtHypervisor::start(Listener& listener) {
    static const bool running = runEventLoopForEver();
    if (!running) spdlog::critical("libvirt's event loop cannot be had: {}", lastError());
    {
        const std::lock_guard lock(worker_->mutex);
        worker_->listener = &listener;
    }
    std::thread([worker = worker_] { worker->run(); }).detach();
}

void LibvirtHypervisor::Worker::add(Write write) {
    {
        const std::lock_guard lock(mutex);
        if (connected) {
            writes.push_back(std::move(write));
            changed.notify_all();
            return;
        }
    }
    answer(std::move(write.done), fail(ErrorCode::hypervisorUnavailable, "libvirtd is away"));
}

void LibvirtHypervisor::setOvercommit(const std::string& uuid, std::optional<std::string> element,
                                      std::function<void(Result<void>)> done) {
    worker_->add({uuid, std::move(element), std::move(done)});
}

void LibvirtHypervisor::suspend(const std::string& uuid, std::function<void(Result<void>)> done) {
    worker_->add({uuid, {}, std::move(done), true});
}

LibvirtHypervisor::~LibvirtHypervisor() {
    std::unique_lock lock(worker_->mutex);
    worker_->stopping = true;
    worker_->changed.notify_all();
    if (worker_->listener == nullptr) return;  // never started
    if (!worker_->changed.wait_for(lock, 500ms, [this] { return worker_->ended; }))
        spdlog::warn("libvirt does not answer; leaving its connection behind");
}

}  // namespace thermocline
