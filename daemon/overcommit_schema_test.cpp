// SPDX-License-Identifier: Apache-2.0
// docs/thermocline-domain.rng against the examples of docs/virsh.md, and against parseOvercommit(): both say
// the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libxml/parser.h>
#include <libxml/relaxng.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <regex>

#include "daemon/overcommit_xml.h"

namespace thermocline {
namespace {

const std::filesystem::path docs = THERMOCLINE_DOCS;

struct Free {
    void operator()(xmlDoc* document) const { xmlFreeDoc(document); }
    void operator()(xmlRelaxNG* schema) const { xmlRelaxNGFree(schema); }
    void operator()(xmlRelaxNGParserCtxt* context) const { xmlRelaxNGFreeParserCtxt(context); }
    void operator()(xmlRelaxNGValidCtxt* context) const { xmlRelaxNGFreeValidCtxt(context); }
};

class OvercommitSchema : public ::testing::Test {
  protected:
    static void quiet(void* /*context*/, const char* /*format*/, ...) {}  // NOLINT: libxml2's signature
    void SetUp() override {
        const std::unique_ptr<xmlRelaxNGParserCtxt, Free> context(
            xmlRelaxNGNewParserCtxt((docs / "thermocline-domain.rng").c_str()));
        schema_.reset(xmlRelaxNGParse(context.get()));
        ASSERT_NE(schema_, nullptr);
    }
    /// Of an element as people write it for virsh, without a namespace: libvirt adds that.
    [[nodiscard]] bool valid(std::string element) const {
        const auto space = std::string(" xmlns=\"") + metadataNamespace + "\"";
        const auto name = element.find("commit");
        if (name == std::string::npos) return false;
        element.insert(name + 6, space);
        const std::unique_ptr<xmlDoc, Free> document(
            xmlReadMemory(element.data(), static_cast<int>(element.size()), "", nullptr,
                          XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NONET));
        if (document == nullptr) return false;
        const std::unique_ptr<xmlRelaxNGValidCtxt, Free> context(xmlRelaxNGNewValidCtxt(schema_.get()));
        xmlRelaxNGSetValidErrors(context.get(), &quiet, &quiet, nullptr);
        return xmlRelaxNGValidateDoc(context.get(), document.get()) == 0;
    }
    std::unique_ptr<xmlRelaxNG, Free> schema_;
};

TEST_F(OvercommitSchema, theExamplesOfTheDocumentationAreValid) {
    std::ifstream file(docs / "virsh.md");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::regex element("<overcommit[^>]*/>");
    int found = 0;
    for (std::sregex_iterator match(text.begin(), text.end(), element), end; match != end; ++match) {
        ++found;
        EXPECT_TRUE(valid(match->str())) << match->str();
        EXPECT_TRUE(parseOvercommit(match->str())) << match->str();
    }
    EXPECT_GE(found, 4);
}

TEST_F(OvercommitSchema, saysWhatTheDaemonSays) {
    for (const char* const element :
         {"<overcommit/>", "<overcommit limit='1GiB'/>", "<overcommit limit='1.5 GB'/>",
          "<overcommit limit='512m'/>", "<overcommit limit='1073741824'/>", "<overcommit limit='7B'/>",
          "<overcommit max-stall='0.01%'/>", "<overcommit max-stall='50%'/>",
          "<overcommit max-stall='0.5 %'/>", "<overcommit max-stall='1e-3'/>",
          "<overcommit max-stall='0.5' min-resident='1KiB' limit='2T'/>", "<overcommit><!-- --></overcommit>",
          "<overcommit priority='1'/>", "<overcommit priority='1000' limit='1G'/>",
          "<overcommit priority='007'/>", "<overcommit freeze-paused='90'/>",
          "<overcommit freeze-paused='5m' limit='1G'/>", "<overcommit freeze-paused='007d'/>",
          // and what is not taken
          "<overcommit priority='0'/>", "<overcommit priority='1001'/>", "<overcommit priority=' 5'/>",
          "<overcommit priority='-5'/>", "<overcommit priority=''/>", "<overcommit priority='high'/>",
          "<overcommit freeze-paused='0'/>", "<overcommit freeze-paused='5 m'/>",
          "<overcommit freeze-paused='-5m'/>", "<overcommit freeze-paused='1y'/>", "<overcommit limit='0'/>",
          "<overcommit limit='0.0G'/>", "<overcommit limit=''/>", "<overcommit limit='G'/>",
          "<overcommit limit='-1G'/>", "<overcommit limit='1e9'/>", "<overcommit limit='1Gib/s'/>",
          "<overcommit limt='1G'/>", "<overcommit max-stall='0'/>", "<overcommit max-stall='0.51'/>",
          "<overcommit max-stall='51%'/>", "<overcommit max-stall='0.001%'/>",
          "<overcommit max-stall='INF'/>", "<overcommit max-stall='a lot'/>",
          "<overcommit min-resident='1G'/>", "<overcommit>1G</overcommit>",
          "<overcommit><limit/></overcommit>", "<undercommit/>", "<overcommit"})
        EXPECT_EQ(valid(element), parseOvercommit(element).has_value()) << element;
}

}  // namespace
}  // namespace thermocline
