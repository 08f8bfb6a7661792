// SPDX-License-Identifier: Apache-2.0
// Against libvirt itself: its test driver, in this process
// and in a libvirtd of the test's own that comes and goes.
#include "daemon/libvirt_hypervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libvirt/libvirt.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <optional>

#include "daemon/overcommit_xml.h"
#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr const char* testUuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";  // of test:///default
constexpr std::uint64_t gib = 1 << 30;

struct Recorder : Hypervisor::Listener {
    void hypervisorConnected(const std::vector<DomainInfo>& list) override {
        ++connections;
        connected = true;
        domains.clear();
        for (const auto& info : list)
            domains[info.uuid] = info;
    }
    void hypervisorLost(const std::string& why) override {
        connected = false;
        reason = why;
    }
    void domainChanged(const DomainInfo& info) override { domains[info.uuid] = info; }
    void domainMetadataChanged(const DomainInfo& info) override {
        ++metadataChanges;
        domains[info.uuid] = info;
    }
    void domainRemoved(const std::string& uuid) override { domains.erase(uuid); }
    void domainRebooted(const std::string& uuid) override { rebooted = uuid; }
    bool connected = false;
    int connections = 0;
    int metadataChanges = 0;
    std::string reason;
    std::string rebooted;
    std::map<std::string, DomainInfo> domains;
};

struct Close {
    void operator()(virConnectPtr connection) const { virConnectClose(connection); }
    void operator()(virDomainPtr domain) const { virDomainFree(domain); }
};
using Connection = std::unique_ptr<virConnect, Close>;
using DomainHandle = std::unique_ptr<virDomain, Close>;

class LibvirtHypervisorTest : public ::testing::Test {
  protected:
    bool until(const std::function<bool()>& done) { return loop_.runUntil(done, 20s); }
    void follow(const std::string& uri) {
        hypervisor_ = std::make_unique<LibvirtHypervisor>(loop_, uri);
        hypervisor_->start(recorder_);
    }
    EventLoop loop_;
    Recorder recorder_;
    std::unique_ptr<LibvirtHypervisor> hypervisor_;
};

TEST_F(LibvirtHypervisorTest, followsTheLifeOfDomains) {
    follow("test:///default");
    ASSERT_TRUE(until([&] { return recorder_.connected; }));
    ASSERT_TRUE(recorder_.domains.contains(testUuid));
    DomainInfo test{testUuid, "test", true, false, 8 * gib};
    test.id = 1;
    EXPECT_EQ(recorder_.domains[testUuid], test);

    const Connection connection(virConnectOpen("test:///default"));
    ASSERT_NE(connection, nullptr);
    const char* const other = "11111111-2222-3333-4444-555555555555";
    const std::string xml = std::string("<domain type='test'><name>other</name><uuid>") + other +
                            "</uuid><memory unit='GiB'>1</memory><os><type>hvm</type></os></domain>";
    const DomainHandle domain(virDomainDefineXML(connection.get(), xml.c_str()));
    ASSERT_NE(domain, nullptr);
    ASSERT_TRUE(until([&] { return recorder_.domains.contains(other); }));
    EXPECT_EQ(recorder_.domains[other], (DomainInfo{other, "other", false, false, gib}));
    ASSERT_EQ(virDomainCreate(domain.get()), 0);
    ASSERT_TRUE(until([&] { return recorder_.domains[other].running; }));
    EXPECT_NE(recorder_.domains[other].id, test.id);
    ASSERT_EQ(virDomainSuspend(domain.get()), 0);
    ASSERT_TRUE(until([&] { return recorder_.domains[other].activity == memory::Activity::paused; }));
    ASSERT_EQ(virDomainDestroy(domain.get()), 0);
    ASSERT_TRUE(until([&] { return !recorder_.domains[other].running; }));
    ASSERT_EQ(virDomainUndefine(domain.get()), 0);
    ASSERT_TRUE(until([&] { return !recorder_.domains.contains(other); }));
}

TEST_F(LibvirtHypervisorTest, readsFollowsAndWritesTheElementInTheMetadata) {
    follow("test:///default");
    ASSERT_TRUE(until([&] { return recorder_.connected; }));
    EXPECT_EQ(recorder_.domains[testUuid].overcommit, std::nullopt);
    const Connection connection(virConnectOpen("test:///default"));
    const DomainHandle domain(virDomainLookupByUUIDString(connection.get(), testUuid));
    ASSERT_NE(domain, nullptr);
    const auto set = [&](const char* element, const char* key, const char* space) {
        return virDomainSetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT, element, key, space, 0);
    };
    // What others keep there is not ours to hear of.
    ASSERT_EQ(set("<other/>", "o", "http://example.org/other"), 0);
    ASSERT_EQ(set("<overcommit limit='1GiB'/>", metadataKey, metadataNamespace), 0);
    ASSERT_TRUE(until([&] { return recorder_.metadataChanges != 0; }));
    EXPECT_EQ(recorder_.metadataChanges, 1);
    EXPECT_EQ(parseOvercommit(recorder_.domains[testUuid].overcommit.value()).value(),
              (db::Policy{true, gib}));

    const auto write = [&](const char* uuid, std::optional<std::string> element) {
        std::optional<Result<void>> result;
        hypervisor_->setOvercommit(uuid, std::move(element), [&](Result<void> done) {
            EXPECT_EQ(recorder_.metadataChanges, 1) << "told of its own write before it was answered";
            result = std::move(done);
        });
        EXPECT_TRUE(until([&] { return result.has_value(); }));
        return *result;
    };
    ASSERT_TRUE(write(testUuid, "<overcommit max-stall='0.01'/>"));
    ASSERT_TRUE(until([&] { return recorder_.metadataChanges == 2; }));
    EXPECT_EQ(parseOvercommit(recorder_.domains[testUuid].overcommit.value()).value(),
              (db::Policy{true, 0, {0.01, 0}}));
    recorder_.metadataChanges = 1;
    ASSERT_TRUE(write(testUuid, std::nullopt));
    ASSERT_TRUE(until([&] { return recorder_.metadataChanges == 2; }));
    EXPECT_EQ(recorder_.domains[testUuid].overcommit, std::nullopt);

    recorder_.metadataChanges = 1;
    EXPECT_EQ(write("11111111-2222-3333-4444-000000000000", "<overcommit/>").error().code,
              ErrorCode::noSuchDomain);
    EXPECT_EQ(write(testUuid, "<overcommit").error().code, ErrorCode::systemError);
    set(nullptr, "o", "http://example.org/other");
}

TEST_F(LibvirtHypervisorTest, writesBeforeItEnds) {
    follow("test:///default");
    ASSERT_TRUE(until([&] { return recorder_.connected; }));
    const Connection connection(virConnectOpen("test:///default"));  // the driver forgets with its last one
    const DomainHandle domain(virDomainLookupByUUIDString(connection.get(), testUuid));
    hypervisor_->setOvercommit(testUuid, "<overcommit/>", [](const Result<void>&) {});
    hypervisor_.reset();
    char* const element =
        virDomainGetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT, metadataNamespace, 0);
    EXPECT_STREQ(element, "<overcommit/>");
    free(element);  // NOLINT: libvirt's allocation
    virDomainSetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT, nullptr, metadataKey, metadataNamespace,
                         0);
}

TEST_F(LibvirtHypervisorTest, suspendsADomain) {
    follow("test:///default");
    ASSERT_TRUE(until([&] { return recorder_.connected; }));
    const Connection connection(virConnectOpen("test:///default"));
    const DomainHandle domain(virDomainLookupByUUIDString(connection.get(), testUuid));
    const auto suspend = [&](const char* uuid) {
        std::optional<Result<void>> result;
        hypervisor_->suspend(uuid, [&](Result<void> done) { result = std::move(done); });
        EXPECT_TRUE(until([&] { return result.has_value(); }));
        return *result;
    };
    ASSERT_TRUE(suspend(testUuid));
    int state = 0;
    ASSERT_EQ(virDomainGetState(domain.get(), &state, nullptr, 0), 0);
    EXPECT_EQ(state, VIR_DOMAIN_PAUSED);
    EXPECT_THAT(suspend(testUuid).error().message, HasSubstr("suspend: "));
    EXPECT_EQ(suspend("00000000-0000-4000-8000-000000000000").error().code, ErrorCode::noSuchDomain);
    ASSERT_EQ(virDomainResume(domain.get()), 0);
}

TEST_F(LibvirtHypervisorTest, writesNothingWithoutALibvirtd) {
    follow("test+unix:///default?socket=/nonexistent/libvirt-sock");
    std::optional<Result<void>> result;
    hypervisor_->setOvercommit(testUuid, "<overcommit/>",
                               [&](Result<void> done) { result = std::move(done); });
    ASSERT_TRUE(until([&] { return result.has_value(); }));
    EXPECT_EQ(result->error().code, ErrorCode::hypervisorUnavailable);
}

TEST_F(LibvirtHypervisorTest, saysWhyItCannotConnectAndKeepsTrying) {
    follow("test+unix:///default?socket=/nonexistent/libvirt-sock");
    ASSERT_TRUE(until([&] { return !recorder_.reason.empty(); }));
    EXPECT_THAT(recorder_.reason, HasSubstr("/nonexistent/libvirt-sock"));
    EXPECT_THAT(recorder_.reason, HasSubstr("start libvirtd"));
    EXPECT_FALSE(recorder_.connected);
    recorder_.reason.clear();
    EXPECT_TRUE(until([&] { return !recorder_.reason.empty(); }));
}

TEST_F(LibvirtHypervisorTest, tellsNothingAfterItsEnd) {
    follow("test:///default");
    hypervisor_.reset();
    loop_.runUntil([] { return false; }, 50ms);
    EXPECT_EQ(recorder_.connections, 0);
}

/// A libvirtd in session mode with everything in one
/// directory, run as nobody: it cannot touch the host's own.
class OwnLibvirtd {
  public:
    explicit OwnLibvirtd(const std::filesystem::path& directory) : directory_(directory) {
        std::filesystem::permissions(directory, std::filesystem::perms::all);
        start();
    }
    OwnLibvirtd(const OwnLibvirtd&) = delete;
    OwnLibvirtd& operator=(const OwnLibvirtd&) = delete;
    ~OwnLibvirtd() { kill(); }
    void start() {
        pid_ = ::fork();
        if (pid_ != 0) return;
        ::setenv("HOME", directory_.c_str(), 1);
        ::setenv("XDG_RUNTIME_DIR", directory_.c_str(), 1);
        ::unsetenv("LISTEN_FDS");
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(126);
        ::execlp("libvirtd", "libvirtd", "--timeout", "600", nullptr);
        ::_exit(127);
    }
    void kill() {
        if (pid_ == 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }
    [[nodiscard]] std::string uri() const {
        return "test+unix:///default?socket=" + (directory_ / "libvirt" / "libvirt-sock").string();
    }

  private:
    std::filesystem::path directory_;
    pid_t pid_ = 0;
};

TEST_F(LibvirtHypervisorTest, comesBackWithLibvirtd) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to run libvirtd as somebody who can do no harm";
    if (::access("/usr/sbin/libvirtd", X_OK) != 0) GTEST_SKIP() << "libvirtd is not installed";
    const thermocline::testing::TemporaryDirectory directory;
    OwnLibvirtd libvirtd(directory.path());
    follow(libvirtd.uri());
    ASSERT_TRUE(until([&] { return recorder_.connected; })) << recorder_.reason;
    EXPECT_TRUE(recorder_.domains.contains(testUuid));
    libvirtd.kill();
    ASSERT_TRUE(until([&] { return !recorder_.connected; }));
    EXPECT_THAT(recorder_.reason, HasSubstr("broke"));
    libvirtd.start();
    ASSERT_TRUE(until([&] { return recorder_.connected; })) << recorder_.reason;
    EXPECT_EQ(recorder_.connections, 2);
    EXPECT_TRUE(recorder_.domains.contains(testUuid));
}

}  // namespace
}  // namespace thermocline
