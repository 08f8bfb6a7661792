// SPDX-License-Identifier: Apache-2.0
#include "common/byte_size.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(ByteSize, parsesWhatPeopleWrite) {
    EXPECT_EQ(parseByteSize("0").value(), 0U);
    EXPECT_EQ(parseByteSize("4096").value(), 4096U);
    EXPECT_EQ(parseByteSize("512M").value(), 512U << 20);
    EXPECT_EQ(parseByteSize("1GiB").value(), 1U << 30);
    EXPECT_EQ(parseByteSize("1.5g").value(), 3U << 29);
    EXPECT_EQ(parseByteSize("2 KB").value(), 2000U);
    EXPECT_EQ(parseByteSize("3t").value(), 3ULL << 40);
}

TEST(ByteSize, refusesWhatIsNotASize) {
    for (const char* text :
         {"", "M", "-1", "+1", "nan", "inf", "12X", "1GiBs", "1e5", "0x10", "99999999999T", "5 5"}) {
        const auto size = parseByteSize(text);
        ASSERT_FALSE(size) << text;
        EXPECT_EQ(size.error().code, ErrorCode::invalidArgument);
        EXPECT_NE(size.error().message.find(text), std::string::npos);
    }
}

TEST(ByteSize, formatsForPeople) {
    EXPECT_EQ(formatByteSize(0), "0 B");
    EXPECT_EQ(formatByteSize(1023), "1023 B");
    EXPECT_EQ(formatByteSize(1536), "1.5 KiB");
    EXPECT_EQ(formatByteSize(3ULL << 30), "3.0 GiB");
}

TEST(ErrorNames, roundTrip) {
    for (int code = 0; code <= static_cast<int>(ErrorCode::internal); ++code)
        EXPECT_EQ(errorCodeFromName(errorName(static_cast<ErrorCode>(code))), static_cast<ErrorCode>(code));
    EXPECT_EQ(errorCodeFromName("NoSuchName"), ErrorCode::internal);
}

}  // namespace
}  // namespace thermocline
