// SPDX-License-Identifier: Apache-2.0
#include "cli/image_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/heat_view.h"

namespace thermocline::cli {
namespace {

using ::testing::HasSubstr;

class ImageFile : public ::testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/tmp/thermocline-image-XXXXXX";
        directory_ = ::mkdtemp(path);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    [[nodiscard]] std::string file(const char* name) const { return directory_ + "/" + name; }
    static std::string read(const std::string& path) {
        std::ifstream stream(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(stream), {}};
    }
    static std::uint32_t bigEndian(const std::string& bytes, std::size_t at) {
        std::uint32_t value = 0;
        for (std::size_t i = at; i < at + 4; ++i)
            value = value << 8 | static_cast<unsigned char>(bytes.at(i));
        return value;
    }

    std::string directory_;
    const std::string svg_ = heatSvg({"vm", 1U << 21, {{{512, 0, 0, 0}}, 1U << 21}});
};

TEST_F(ImageFile, anSvgIsWrittenAsItIs) {
    ASSERT_TRUE(writeImage(file("map.svg"), svg_));
    EXPECT_EQ(read(file("map.svg")), svg_);
}

TEST_F(ImageFile, aPngIsThePictureThatTheSvgDescribes) {
    ASSERT_TRUE(writeImage(file("map.png"), svg_));
    const auto png = read(file("map.png"));
    ASSERT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n"));
    // The size of the image is the first thing after the header (RFC 2083, 4.1.1).
    EXPECT_THAT(svg_, HasSubstr("width=\"" + std::to_string(bigEndian(png, 16)) + "\""));
    EXPECT_THAT(svg_, HasSubstr("height=\"" + std::to_string(bigEndian(png, 20)) + "\""));
    EXPECT_GT(png.size(), 2000U) << "it is empty";
}

TEST_F(ImageFile, whatCannotBeWrittenIsToldWithItsName) {
    for (const char* name : {"missing/map.svg", "missing/map.png"}) {
        const auto written = writeImage(file(name), svg_);
        ASSERT_FALSE(written) << name;
        EXPECT_THAT(written.error().message, HasSubstr(file(name)));
    }
    const auto damaged = writeImage(file("map.png"), "<svg");
    ASSERT_FALSE(damaged);
    EXPECT_FALSE(std::filesystem::exists(file("map.png")));
}

}  // namespace
}  // namespace thermocline::cli
