// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain_xml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(DomainXml, readsMetadataAndTheHardLimit) {
    const auto read = readDomainXml(
        "<domain><name>a</name><metadata><x:y xmlns:x='urn:x' z='1'/></metadata>"
        "<memtune><hard_limit unit='KiB'>2048</hard_limit><soft_limit "
        "unit='KiB'>1</soft_limit></memtune></domain>");
    EXPECT_EQ(read.metadata, "<metadata><x:y xmlns:x=\"urn:x\" z=\"1\"/></metadata>");
    EXPECT_EQ(read.hardLimitBytes, 2U << 20);
}

TEST(DomainXml, hasNothingWhereThereIsNothing) {
    for (const char* const xml :
         {"", "<domain", "<domain/>", "<domain><memtune/></domain>",
          "<domain><memtune><hard_limit unit='KiB'>9007199254740991</hard_limit></memtune></domain>",
          "<domain><memtune><hard_limit>much</hard_limit></memtune></domain>"}) {
        EXPECT_EQ(readDomainXml(xml).metadata, "") << xml;
        EXPECT_EQ(readDomainXml(xml).hardLimitBytes, 0U) << xml;
    }
}

}  // namespace
}  // namespace thermocline
