// SPDX-License-Identifier: Apache-2.0
#include "daemon/metrics_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "daemon/testing/fake_hypervisor.h"
#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

class MetricsExporterTest : public ::testing::Test {
  protected:
    struct Observer : Daemon::Observer {
        void domainAdded(Domain& /*domain*/) override {}
        void domainRemoved(Domain& /*domain*/) override {}
        void domainChanged(Domain& /*domain*/) override {}
        void hypervisorChanged() override {}
        void budgetChanged() override {}
    };
    thermocline::testing::TemporaryDirectory directory_;
    EventLoop loop_;
    db::Database database_ = db::Database::open(directory_.path() / "thermocline.db").value();
    RuntimeDirectory runtime_ = RuntimeDirectory::open(directory_.path() / "run").value();
    QemuProcesses processes_{directory_.path()};
    testing::FakeHypervisor hypervisor_;
    Observer observer_;
    Daemon daemon_{{loop_, hypervisor_, database_, runtime_, processes_, "/nonexistent"}};
};

TEST_F(MetricsExporterTest, theDocumentationHasEveryNameWithItsType) {
    std::ifstream file(std::filesystem::path(THERMOCLINE_DOCS) / "metrics.md");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::regex row(R"(\| `(thermocline_\w+)` \| (gauge|counter) \|)");
    std::set<std::string> documented;
    for (std::sregex_iterator match(text.begin(), text.end(), row), end; match != end; ++match)
        documented.insert((*match)[1].str() + " " + (*match)[2].str());
    std::set<std::string> collected;
    for (const auto& family : collectMetrics(daemon_)) {
        const bool counter = family.type == prometheus::MetricType::Counter;
        EXPECT_EQ(counter, family.name.ends_with("_total")) << family.name;
        EXPECT_FALSE(family.help.empty());
        collected.insert(family.name + (counter ? " counter" : " gauge"));
    }
    EXPECT_EQ(collected, documented);
}

TEST_F(MetricsExporterTest, aDomainThatIsNotAttachedHasThatOneMetric) {
    daemon_.start(observer_);
    hypervisor_.listener().hypervisorConnected(
        {{"aaaaaaaa-0000-4000-8000-000000000001", "web\"1", false, false, 1U << 30}});
    for (const auto& family : collectMetrics(daemon_)) {
        if (family.name == "thermocline_domain_attached") {
            ASSERT_EQ(family.metric.size(), 1U);
            EXPECT_EQ(family.metric[0].gauge.value, 0);
            EXPECT_EQ(family.metric[0].label[0].value, "web\"1");
            EXPECT_EQ(family.metric[0].label[1].value, "aaaaaaaa-0000-4000-8000-000000000001");
        } else if (family.name.starts_with("thermocline_domain_")) {
            EXPECT_TRUE(family.metric.empty()) << family.name;
        } else if (family.name == "thermocline_hypervisor_connected") {
            EXPECT_EQ(family.metric.at(0).gauge.value, 1);
        }
    }
}

TEST_F(MetricsExporterTest, anAddressThatIsTakenIsTold) {
    // Nobody may bind to an address that is not this host's.
    const auto serving = MetricsExporter::serve(loop_, daemon_, {"192.0.2.7", 9927});
    ASSERT_FALSE(serving);
    EXPECT_EQ(serving.error().code, ErrorCode::systemError);
    EXPECT_THAT(serving.error().message, ::testing::HasSubstr("192.0.2.7:9927"));
}

}  // namespace
}  // namespace thermocline
