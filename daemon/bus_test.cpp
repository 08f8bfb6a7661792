// SPDX-License-Identifier: Apache-2.0
// The D-Bus surface, over a real bus of its own; libvirt is a fake, VMs and managers only sit there.
#include "daemon/bus.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <unistd.h>

#include <array>
#include <future>
#include <mutex>

#include "daemon/testing/fake_hypervisor.h"
#include "daemon/testing/fake_manager.h"
#include "daemon/testing/fake_vm.h"
#include "daemon/testing/private_bus.h"
#include "db/testing/temporary_directory.h"
#include "dbus/domain_proxy.h"
#include "dbus/manager_proxy.h"

/// sdbus-c++ 1.2 forgets what it has of a connection that could not be opened.
extern "C" const char* __lsan_default_suppressions();  // NOLINT: the sanitizer's own name
extern "C" const char* __lsan_default_suppressions() {
    return "leak:sd_bus_new";
}  // NOLINT

namespace thermocline {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using testing::FakeManagerMood;
using ::testing::HasSubstr;

const std::string uuid = testing::uniqueUuid();
const std::string path = domainPath(uuid);
constexpr std::uint64_t mib = 1 << 20;
constexpr const char* uri = "fake:///";

class ManagerProxy final
    : public sdbus::ProxyInterfaces<org::thermocline1::Manager_proxy, sdbus::ObjectManager_proxy> {
  public:
    explicit ManagerProxy(sdbus::IConnection& connection)
        : ProxyInterfaces(connection, Bus::name, Bus::rootPath) {
        registerProxy();
    }
    ~ManagerProxy() { unregisterProxy(); }
    std::vector<std::string> seen() {
        const std::lock_guard lock(mutex_);
        return seen_;
    }

  private:
    void note(const std::string& what) {
        const std::lock_guard lock(mutex_);
        seen_.push_back(what);
    }
    void onDomainAdded(const sdbus::ObjectPath& domain) override { note("added " + domain); }
    void onDomainRemoved(const sdbus::ObjectPath& domain) override { note("removed " + domain); }
    void onInterfacesAdded(
        const sdbus::ObjectPath& object,
        const std::map<std::string, std::map<std::string, sdbus::Variant>>& interfaces) override {
        if (interfaces.contains("org.thermocline1.Domain")) note("interfaces of " + object);
    }
    void onInterfacesRemoved(const sdbus::ObjectPath& object,
                             const std::vector<std::string>& /*names*/) override {
        note("no interfaces of " + object);
    }
    std::mutex mutex_;
    std::vector<std::string> seen_;
};

class DomainProxy final
    : public sdbus::ProxyInterfaces<org::thermocline1::Domain_proxy, sdbus::Properties_proxy> {
  public:
    explicit DomainProxy(sdbus::IConnection& connection) : ProxyInterfaces(connection, Bus::name, path) {
        registerProxy();
    }
    ~DomainProxy() { unregisterProxy(); }
    std::map<std::string, std::vector<sdbus::Variant>> changes() {
        const std::lock_guard lock(mutex_);
        return changes_;
    }

  private:
    void onPropertiesChanged(const std::string& /*interface*/,
                             const std::map<std::string, sdbus::Variant>& changed,
                             const std::vector<std::string>& /*invalidated*/) override {
        const std::lock_guard lock(mutex_);
        for (const auto& [name, value] : changed)
            changes_[name].push_back(value);
    }
    std::mutex mutex_;
    std::map<std::string, std::vector<sdbus::Variant>> changes_;
};

class BusTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto bus = Bus::connect(loop_, dbus_.address());
        ASSERT_TRUE(bus) << bus.error().message;
        bus_ = std::move(*bus);
        const auto published = bus_->publish(daemon_, uri, [this] { lost_ = true; });
        ASSERT_TRUE(published) << published.error().message;
        daemon_.start(*bus_);
        client_ = sdbus::createSessionBusConnectionWithAddress(dbus_.address());
        client_->enterEventLoopAsync();
        manager_ = std::make_unique<ManagerProxy>(*client_);
        domain_ = std::make_unique<DomainProxy>(*client_);
    }
    void TearDown() override {
        vm_.end();
        loop_.runUntil([&] { return !std::filesystem::exists(runtime_.domainDirectory(uuid)); }, 10s);
        domain_.reset();
        manager_.reset();
        if (client_) client_->leaveEventLoop();
        bus_.reset();
    }
    void connectHypervisor() {
        hypervisor_.listener().hypervisorConnected({{uuid, "vm", true, false, 512 * mib}});
    }
    /// Blocking calls come from another thread, as from another program; this one is the daemon's.
    template <typename Call>
    auto call(Call work) {
        auto future = std::async(std::launch::async, std::move(work));
        EXPECT_TRUE(until([&] { return future.wait_for(0s) == std::future_status::ready; }));
        return future.get();
    }
    template <typename Call>
    void expectError(Call work, const std::string& name, const std::string& words) {
        try {
            call(std::move(work));
            FAIL() << "expected " << name;
        } catch (const sdbus::Error& error) {
            EXPECT_EQ(error.getName(), "org.thermocline1.Error." + name);
            EXPECT_THAT(error.getMessage(), HasSubstr(words));
        }
    }
    bool until(const std::function<bool()>& done) {
        // What is waited for happens in another thread, which does not wake this loop.
        const auto tick = loop_.every(2ms, [] {});
        return loop_.runUntil(done, 10s);
    }

    thermocline::testing::TemporaryDirectory temporary_;
    testing::PrivateBus dbus_{temporary_.path()};
    testing::FakeVm vm_{uuid};
    EventLoop loop_;
    db::Database database_ = db::Database::open(temporary_.path() / "thermocline.db").value();
    RuntimeDirectory runtime_ = RuntimeDirectory::open(temporary_.path() / "run").value();
    QemuProcesses processes_{temporary_.path()};
    testing::FakeHypervisor hypervisor_;
    std::unique_ptr<Bus> bus_;
    bool lost_ = false;
    Daemon daemon_{{loop_,
                    hypervisor_,
                    database_,
                    runtime_,
                    processes_,
                    THERMOCLINE_FAKE_MANAGER,
                    2s,
                    1s,
                    [](pid_t) -> Result<memory::GuestSupport> {
                        return memory::GuestSupport{true, "move", 512 * mib, "", ""};
                    },
                    {"/disk", {}, {}, {}}}};
    std::unique_ptr<sdbus::IConnection> client_;
    std::unique_ptr<ManagerProxy> manager_;
    std::unique_ptr<DomainProxy> domain_;
};

TEST_F(BusTest, showsWhatTheHypervisorKnows) {
    EXPECT_EQ(call([&] { return manager_->HypervisorState(); }), "disconnected");
    EXPECT_EQ(call([&] { return manager_->HypervisorUri(); }), uri);
    EXPECT_EQ(call([&] { return manager_->Version(); }), THERMOCLINE_VERSION);
    EXPECT_TRUE(call([&] { return manager_->ListDomains(); }).empty());
    expectError([&] { return manager_->LookupByName("vm"); }, "HypervisorUnavailable", "libvirtd");
    expectError([&] { return manager_->LookupByUuid(uuid); }, "HypervisorUnavailable", "libvirtd");

    connectHypervisor();
    EXPECT_EQ(call([&] { return manager_->HypervisorState(); }), "connected");
    EXPECT_THAT(call([&] { return manager_->ListDomains(); }), ElementsAre(sdbus::ObjectPath(path)));
    EXPECT_THAT(call([&] { return manager_->Domains(); }), ElementsAre(sdbus::ObjectPath(path)));
    EXPECT_EQ(path.find('-'), std::string::npos);
    EXPECT_EQ(call([&] { return manager_->LookupByName("vm"); }), path);
    std::string undecorated = uuid;
    std::erase(undecorated, '-');
    for (char& c : undecorated)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    EXPECT_EQ(call([&] { return manager_->LookupByUuid(undecorated); }), path);
    expectError([&] { return manager_->LookupByName("nope"); }, "NoSuchDomain", "nope");
    expectError([&] { return manager_->LookupByUuid("aaaaaaaa-bbbb-cccc-dddd-ffffffffffff"); },
                "NoSuchDomain", "ffffffffffff");
    expectError([&] { return manager_->LookupByUuid("xyz"); }, "InvalidArgument", "not a UUID");
    ASSERT_TRUE(until([&] { return manager_->seen().size() == 2; }));
    EXPECT_THAT(manager_->seen(), ::testing::UnorderedElementsAre(std::string("added ") + path,
                                                                  std::string("interfaces of ") + path));
    const auto findings = call([&] { return manager_->Doctor(); });
    EXPECT_EQ(findings.back().get<0>(), "libvirt");
    EXPECT_TRUE(findings.back().get<1>());
}

TEST_F(BusTest, aDomainThatIsUndefinedGoes) {
    connectHypervisor();
    hypervisor_.listener().domainRemoved(uuid);
    ASSERT_TRUE(until([&] { return manager_->seen().size() == 4; }));
    EXPECT_THAT(manager_->seen(), ::testing::Contains(std::string("removed ") + path));
    EXPECT_THAT(manager_->seen(), ::testing::Contains(std::string("no interfaces of ") + path));
    EXPECT_TRUE(call([&] { return manager_->ListDomains(); }).empty());
}

TEST_F(BusTest, managesADomain) {
    connectHypervisor();
    EXPECT_EQ(call([&] { return domain_->State(); }), "detached");
    EXPECT_TRUE(call([&] { return domain_->Supported(); }));
    EXPECT_EQ(call([&] { return domain_->Pid(); }), static_cast<std::uint32_t>(vm_.pid()));
    expectError([&] { domain_->SetLimit(64 * mib); }, "NotAttached", "thermoctl attach vm");
    expectError([&] { domain_->Detach(); }, "NotAttached", "not attached");

    call([&] { domain_->Attach(); });
    EXPECT_EQ(call([&] { return domain_->State(); }), "attached");
    expectError([&] { domain_->Attach(); }, "AlreadyAttached", "attached already");
    expectError([&] { domain_->SetLimit(0); }, "InvalidLimit", "use ClearLimit");
    expectError([&] { domain_->SetLimit(mib); }, "InvalidLimit", "below the floor");
    expectError([&] { domain_->SetLimit(1024 * mib); }, "InvalidLimit", "above the RAM");
    call([&] { domain_->SetLimit(64 * mib); });
    EXPECT_EQ(call([&] { return domain_->LimitBytes(); }), 64 * mib);
    EXPECT_EQ(call([&] { return domain_->ColdBytes(); }), 448 * mib);
    EXPECT_EQ(call([&] { return domain_->AttachPauseMicroseconds(); }), 321U);

    const auto all = call([&] { return manager_->GetManagedObjects(); });
    const auto& properties = all.at(sdbus::ObjectPath(path)).at("org.thermocline1.Domain");
    EXPECT_EQ(properties.size(), 47U);
    EXPECT_EQ(properties.at("LimitBytes").get<std::uint64_t>(), 64 * mib);
    EXPECT_TRUE(properties.at("Managed").get<bool>());
    EXPECT_EQ(properties.at("Policy").get<std::string>(), "");  // a manager from before there were any
    EXPECT_EQ(properties.at("PolicyNote").get<std::string>(), "");

    call([&] { domain_->ClearLimit(); });
    EXPECT_EQ(call([&] { return domain_->LimitBytes(); }), 0U);
    call([&] { domain_->Detach(); });
    EXPECT_EQ(call([&] { return domain_->State(); }), "detached");
    EXPECT_FALSE(call([&] { return domain_->Managed(); }));
}

TEST_F(BusTest, setsTheProactivePolicyAndTellsOfIt) {
    connectHypervisor();
    EXPECT_EQ(call([&] { return domain_->ProactiveMaxStall(); }), 0);
    expectError([&] { domain_->SetProactive(0.01, 0); }, "NotAttached", "thermoctl attach vm");
    call([&] { domain_->Attach(); });
    call([&] { domain_->SetProactive(0.01, 64 * mib); });
    EXPECT_EQ(call([&] { return domain_->ProactiveMaxStall(); }), 0.01);
    EXPECT_EQ(call([&] { return domain_->MinResidentBytes(); }), 64 * mib);
    EXPECT_EQ(call([&] { return domain_->PrefetchedPages(); }), 0U);
    ASSERT_TRUE(until([&] { return domain_->changes().contains("ProactiveMaxStall"); }));
    EXPECT_EQ(domain_->changes().at("ProactiveMaxStall").back().get<double>(), 0.01);
    EXPECT_EQ(domain_->changes().at("MinResidentBytes").back().get<std::uint64_t>(), 64 * mib);
    expectError([&] { domain_->SetProactive(0.7, 0); }, "InvalidArgument",
                "the manager does not like this stall");
    EXPECT_EQ(call([&] { return domain_->ProactiveMaxStall(); }), 0.01);
    call([&] { domain_->SetProactive(0, 0); });
    EXPECT_EQ(call([&] { return domain_->ProactiveMaxStall(); }), 0);
    EXPECT_EQ(call([&] { return domain_->MinResidentBytes(); }), 0U);
}

TEST_F(BusTest, closesTheFileTierAndTellsOfIt) {
    connectHypervisor();
    EXPECT_EQ(call([&] { return domain_->FileTier(); }), "");
    expectError([&] { domain_->CloseFileTier(); }, "NotAttached", "thermoctl attach vm");
    call([&] { domain_->Attach(); });
    EXPECT_EQ(call([&] { return domain_->FileTier(); }), "open");
    EXPECT_EQ(call([&] { return domain_->FrozenBytes(); }), 8 * mib);
    EXPECT_EQ(call([&] { return domain_->FileBytes(); }), 4 * mib);
    EXPECT_EQ(call([&] { return domain_->FrozenFaults(); }), 7U);
    call([&] { domain_->CloseFileTier(); });
    EXPECT_EQ(call([&] { return domain_->FrozenBytes(); }), 0U);
    ASSERT_TRUE(until([&] {
        const auto changes = domain_->changes();
        return changes.contains("FileTier") &&
               changes.at("FileTier").back().get<std::string>() == "switched off";
    }));
    EXPECT_EQ(domain_->changes().at("FileBytes").back().get<std::uint64_t>(), 0U);
}

TEST_F(BusTest, givesTheHeat) {
    connectHypervisor();
    expectError([&] { (void)domain_->GetHeat(4); }, "NotAttached", "thermoctl attach vm");
    call([&] { domain_->Attach(); });
    const auto [workingSet, pieces] = call([&] { return domain_->GetHeat(4); });
    EXPECT_EQ(workingSet, 3 * mib);
    ASSERT_EQ(pieces.size(), 4U);
    EXPECT_EQ(pieces[3].get<0>(), 1U);
    EXPECT_EQ(pieces[3].get<1>(), 2U);
    EXPECT_EQ(pieces[3].get<2>(), 3U);
    EXPECT_EQ(pieces[3].get<3>(), 3U);
    expectError([&] { (void)domain_->GetHeat(0); }, "InvalidArgument", "the manager wants pieces");
}

TEST_F(BusTest, signalsWhatChangedAndNothingElse) {
    connectHypervisor();
    call([&] { domain_->Attach(); });
    ASSERT_TRUE(until([&] { return domain_->changes().contains("Faults"); }));
    const auto changes = domain_->changes();
    EXPECT_EQ(changes.at("State").back().get<std::string>(), "attached");
    EXPECT_EQ(changes.at("Faults").back().get<std::uint64_t>(), 10U);
    EXPECT_EQ(changes.at("StallRatio").size(), 1U);
    EXPECT_FALSE(changes.contains("Name"));
    EXPECT_FALSE(changes.contains("ZeroFaults"));
    EXPECT_FALSE(changes.contains("Supported"));
}

TEST_F(BusTest, aSlowAttachHoldsUpNobody) {
    connectHypervisor();
    const FakeManagerMood mood("silent");
    auto slow = std::async(std::launch::async, [&] { domain_->Attach(); });
    ASSERT_TRUE(until([&] { return daemon_.domains().at(0)->state() == Domain::State::attaching; }));
    const auto other = sdbus::createSessionBusConnectionWithAddress(dbus_.address());
    EXPECT_EQ(call([&] { return ManagerProxy(*other).Version(); }), THERMOCLINE_VERSION);
    expectError([&] { DomainProxy(*other).Attach(); }, "Busy", "is attaching");
    EXPECT_EQ(slow.wait_for(0s), std::future_status::timeout);
    ASSERT_TRUE(until([&] { return slow.wait_for(0s) == std::future_status::ready; }));
    EXPECT_THROW(slow.get(), sdbus::Error);
}

TEST_F(BusTest, aCallThatIsUnderWayAtTheEndIsAnswered) {
    connectHypervisor();
    const FakeManagerMood mood("silent");
    auto slow = std::async(std::launch::async, [&] { domain_->Attach(); });
    ASSERT_TRUE(until([&] { return daemon_.domains().at(0)->state() == Domain::State::attaching; }));
    bus_.reset();
    ASSERT_EQ(slow.wait_for(10s), std::future_status::ready);
    try {
        slow.get();
        FAIL();
    } catch (const sdbus::Error& error) {
        EXPECT_EQ(error.getName(), "org.thermocline1.Error.Busy");
        EXPECT_THAT(error.getMessage(), HasSubstr("is ending"));
    }
}

TEST_F(BusTest, itEndsWhenLibvirtHasGotWhatWasSetLast) {
    connectHypervisor();
    call([&] { domain_->Attach(); });
    call([&] { domain_->Detach(); });  // before libvirt has answered the write of the attach
    auto& writes = hypervisor_.writes;
    ASSERT_EQ(writes.size(), 1U);
    bool finished = false;
    daemon_.finish([&] { finished = true; });
    loop_.runUntil([] { return false; }, 50ms);
    EXPECT_FALSE(finished);
    auto first = writes.at(0).done;
    first({});
    loop_.runUntil([] { return false; }, 50ms);
    ASSERT_EQ(writes.size(), 2U);
    EXPECT_FALSE(writes.at(1).element);
    EXPECT_FALSE(finished);
    auto second = writes.at(1).done;
    second({});
    EXPECT_TRUE(until([&] { return finished; }));
}

TEST_F(BusTest, askedTwiceItEndsAtOnce) {
    connectHypervisor();
    call([&] { domain_->Attach(); });
    int finished = 0;
    daemon_.finish([&] { ++finished; });
    EXPECT_EQ(finished, 0);
    daemon_.finish([&] { finished += 10; });
    EXPECT_EQ(finished, 10);
}

TEST_F(BusTest, whatNeedsLibvirtFailsWithoutIt) {
    connectHypervisor();
    call([&] { domain_->Attach(); });
    hypervisor_.listener().hypervisorLost("libvirtd is away; start it");
    EXPECT_EQ(call([&] { return domain_->State(); }), "attached");  // nothing is detached
    EXPECT_EQ(call([&] { return manager_->HypervisorDetail(); }), "libvirtd is away; start it");
    call([&] { domain_->SetLimit(64 * mib); });
    call([&] { domain_->Detach(); });
    expectError([&] { domain_->Attach(); }, "HypervisorUnavailable", "start it");
    EXPECT_FALSE(call([&] { return manager_->Doctor(); }).back().get<1>());
    connectHypervisor();
    call([&] { domain_->Attach(); });
}

TEST_F(BusTest, givesHistory) {
    connectHypervisor();
    db::Sample sample;
    sample.time = db::systemNow() - 5s;
    sample.used = 1000.4;
    sample.faults = 7;
    sample.stallRatioMax = 0.5;
    ASSERT_TRUE(daemon_.history().add({{uuid, sample}}));
    const auto rows = call([&] { return domain_->GetHistory(0, 0, "raw"); });
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].get<0>(), static_cast<std::uint64_t>(sample.time.time_since_epoch().count()));
    EXPECT_EQ(rows[0].get<1>(), 1U);
    EXPECT_EQ(rows[0].get<8>(), 1000U);
    EXPECT_EQ(rows[0].get<10>(), 7U);
    EXPECT_EQ(rows[0].get<16>(), 0.5);
    EXPECT_TRUE(call([&] { return domain_->GetHistory(0, 0, "minute"); }).empty());
    EXPECT_TRUE(call([&] { return domain_->GetHistory(UINT64_MAX, UINT64_MAX, "auto"); }).empty());
    expectError([&] { return domain_->GetHistory(0, 0, "weekly"); }, "InvalidArgument", "weekly");
}

TEST_F(BusTest, theNameIsTakenOnce) {
    EventLoop loop;
    auto second = Bus::connect(loop, dbus_.address()).value();
    const auto published = second->publish(daemon_, uri, [] {});
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code, ErrorCode::alreadyRunning);
    EXPECT_THAT(published.error().message, HasSubstr("another thermoclined owns org.thermocline1"));
}

TEST_F(BusTest, theEndOfTheBusIsTold) {
    connectHypervisor();
    client_->leaveEventLoop();  // it would throw
    dbus_.end();
    EXPECT_TRUE(until([&] { return lost_; }));
    hypervisor_.listener().domainChanged({uuid, "renamed", true, false, 1});  // harmless
    loop_.runUntil([] { return false; }, 20ms);
}

TEST(BusForbidden, aPolicyThatKeepsTheNameFromUsIsTold) {
    const thermocline::testing::TemporaryDirectory directory;
    const testing::PrivateBus dbus(directory.path(), "<deny own='org.thermocline1'/>");
    EventLoop loop;
    db::Database database = db::Database::open(directory.path() / "thermocline.db").value();
    RuntimeDirectory runtime = RuntimeDirectory::open(directory.path() / "run").value();
    const QemuProcesses processes;
    testing::FakeHypervisor hypervisor;
    Daemon daemon({loop, hypervisor, database, runtime, processes, "/nonexistent"});
    auto bus = Bus::connect(loop, dbus.address()).value();
    const auto published = bus->publish(daemon, uri, [] {});
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code, ErrorCode::permissionDenied);
    EXPECT_THAT(published.error().message, HasSubstr("org.thermocline1.conf"));
}

/// Runs dbus-send as `user`: what comes of it.
std::string callAs(const std::string& address, const std::string& user, const std::string& object,
                   const std::string& call) {
    const std::string command = fmt::format(
        "setpriv --reuid {} --clear-groups dbus-send --bus={} --print-reply --dest=org.thermocline1 {} {} "
        "2>&1",
        user, address, object, call);
    std::FILE* const output = ::popen(command.c_str(), "r");
    std::string text;
    std::array<char, 256> line{};
    while (std::fgets(line.data(), line.size(), output) != nullptr)
        text += line.data();
    ::pclose(output);
    return text;
}

/// Whether the bus let the call through: what the service answers does not matter.
bool mayCall(const std::string& address, const std::string& user, const std::string& object,
             const std::string& call) {
    const auto text = callAs(address, user, object, call);
    if (text.find("method return") != std::string::npos ||
        text.find("org.thermocline1.Error.") != std::string::npos)
        return true;
    EXPECT_THAT(text, HasSubstr("org.freedesktop.DBus.Error.AccessDenied"));
    return false;
}

TEST(BusPolicy, everyoneMayLookAndOnlyRootMayChange) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to become others";
    const thermocline::testing::TemporaryDirectory directory;
    const auto dbus = testing::PrivateBus::likeTheSystemBus(directory.path(), THERMOCLINE_BUS_POLICY);
    EventLoop loop;
    db::Database database = db::Database::open(directory.path() / "thermocline.db").value();
    RuntimeDirectory runtime = RuntimeDirectory::open(directory.path() / "run").value();
    const QemuProcesses processes(directory.path());
    testing::FakeHypervisor hypervisor;
    Daemon daemon({loop, hypervisor, database, runtime, processes, "/nonexistent"});
    auto bus = Bus::connect(loop, dbus.address()).value();
    const auto published = bus->publish(daemon, uri, [] {});
    ASSERT_TRUE(published) << published.error().message;
    daemon.start(*bus);
    hypervisor.listener().hypervisorConnected({{uuid, "vm", false, false, 512 * mib}});

    const std::string root = Bus::rootPath;
    const std::string manager = "org.thermocline1.Manager.";
    const std::string domain = "org.thermocline1.Domain.";
    const std::vector<std::pair<std::string, std::string>> reading{
        {root, manager + "ListDomains"},
        {root, manager + "LookupByName string:vm"},
        {root, manager + "LookupByUuid string:" + uuid},
        {root, manager + "Doctor"},
        {root, manager + "Plan string:50% uint64:0"},
        {root, manager + "GetDecisions uint64:0 uint64:0"},
        {root, "org.freedesktop.DBus.ObjectManager.GetManagedObjects"},
        {path, domain + "GetHistory uint64:0 uint64:0 string:raw"},
        {path, domain + "GetHeat uint32:1"},
        {path, "org.freedesktop.DBus.Properties.GetAll string:org.thermocline1.Domain"},
        {path, "org.freedesktop.DBus.Introspectable.Introspect"},
    };
    const std::vector<std::pair<std::string, std::string>> changing{
        {path, domain + "Attach"},
        {path, domain + "Detach"},
        {path, domain + "SetLimit uint64:1"},
        {path, domain + "ClearLimit"},
        {path, domain + "SetProactive double:0.01 uint64:0"},
        {path, domain + "SetPriority uint32:5"},
        {path, domain + "CloseFileTier"},
        {root, manager + "SetBudget string:off uint64:0"},
        {root, manager + "ReloadConfiguration"}};
    auto checks = std::async(std::launch::async, [&] {
        for (const auto& [object, call] : reading)
            EXPECT_TRUE(mayCall(dbus.address(), "65534", object, call)) << call;
        EXPECT_FALSE(mayCall(dbus.address(), "65534", path, "org.freedesktop.DBus.Properties.Set"));
        for (const auto& [object, call] : changing) {
            // The bus lets it through; the daemon does not do it.
            const auto refused = callAs(dbus.address(), "65534", object, call);
            EXPECT_THAT(refused, HasSubstr("org.thermocline1.Error.PermissionDenied: only root may do this"))
                << call;
            EXPECT_THAT(callAs(dbus.address(), "0", object, call),
                        ::testing::Not(HasSubstr("PermissionDenied")))
                << call;
        }
    });
    const auto tick = loop.every(2ms, [] {});
    EXPECT_TRUE(loop.runUntil([&] { return checks.wait_for(0s) == std::future_status::ready; }, 30s));
    bus.reset();
}

TEST(BusForbidden, noBusIsTold) {
    EventLoop loop;
    const auto bus = Bus::connect(loop, "unix:path=/nonexistent/bus");
    ASSERT_FALSE(bus);
    EXPECT_THAT(bus.error().message, HasSubstr("/nonexistent/bus"));
}

}  // namespace
}  // namespace thermocline
