// SPDX-License-Identifier: Apache-2.0
#include "daemon/overcommit_xml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

using ::testing::HasSubstr;
constexpr std::uint64_t mib = 1 << 20;

void refuses(const std::string& xml, const std::string& words) {
    const auto policy = parseOvercommit(xml);
    ASSERT_FALSE(policy) << xml;
    EXPECT_EQ(policy.error().code, ErrorCode::invalidArgument);
    EXPECT_THAT(policy.error().message, HasSubstr(words)) << xml;
}

TEST(OvercommitXml, takesWhatVirshHandsOver) {
    EXPECT_EQ(parseOvercommit("<overcommit/>").value(), (db::Policy{true, 0}));
    EXPECT_EQ(parseOvercommit("<overcommit limit='512MiB'/>\n").value(), (db::Policy{true, 512 * mib}));
    EXPECT_EQ(parseOvercommit("<overcommit limit='1.5G' max-stall='0.5%' min-resident='64M'/>").value(),
              (db::Policy{true, 1536 * mib, {0.005, 64 * mib}}));
    EXPECT_EQ(parseOvercommit(std::string("<thermocline:overcommit xmlns:thermocline='") + metadataNamespace +
                              "' max-stall='0.01'><!-- why --></thermocline:overcommit>")
                  .value(),
              (db::Policy{true, 0, {0.01, 0}}));
}

TEST(OvercommitXml, saysWhatIsWrongAndWhatMayBe) {
    refuses("<overcommit limit='512MiB'", "not well-formed");
    refuses("", "not well-formed");
    refuses("<undercommit/>", "<undercommit>; it has to be <overcommit>");
    refuses("<overcommit limt='1G'/>",
            "no attribute limt; there are limit, max-stall, min-resident, freeze-paused and priority");
    refuses("<overcommit limit='much'/>", "limit: ");
    refuses("<overcommit limit='0'/>", "leave limit out");
    refuses("<overcommit limit='-1G'/>", "limit: ");
    refuses("<overcommit max-stall='60%'/>", "from 0.01 % to 50 %");
    refuses("<overcommit max-stall='0'/>", "leave it out");
    refuses("<overcommit max-stall='nan'/>", "max-stall: ");
    refuses("<overcommit min-resident='1G'/>", "give max-stall too");
    refuses("<overcommit priority='0'/>", "from 1 to 1000");
    refuses("<overcommit freeze-paused='0'/>", "span of time");
    refuses("<overcommit freeze-paused='soon'/>", "span of time");
    refuses("<overcommit freeze-paused='53w'/>", "52w at most");
    refuses("<overcommit>1G</overcommit>", "has content");
    refuses("<overcommit><limit>1G</limit></overcommit>", "has content");
}

TEST(OvercommitXml, writesNothingThatIsRounded) {
    EXPECT_EQ(formatOvercommit({true, 0}), "<overcommit/>");
    EXPECT_EQ(formatOvercommit({true, 512 * mib, {0.005, 1024 * mib}}),
              "<overcommit limit=\"512MiB\" max-stall=\"0.005\" min-resident=\"1GiB\"/>");
    EXPECT_EQ(formatOvercommit({true, 0, {}, false, false, 100, 300}), "<overcommit freeze-paused=\"5m\"/>");
    EXPECT_EQ(formatOvercommit({true, 0, {}, false, false, 250}), "<overcommit priority=\"250\"/>");
    for (const db::Policy& policy :
         {db::Policy{true, 0, {}, false, false, 1}, db::Policy{true, 0, {}, false, false, 100, 90},
          db::Policy{true, 1}, db::Policy{true, 123456789123}, db::Policy{true, 3 * mib, {0.1 + 0.2, 4097}}})
        EXPECT_EQ(parseOvercommit(formatOvercommit(policy)).value(), policy);
}

}  // namespace
}  // namespace thermocline
