// SPDX-License-Identifier: Apache-2.0
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "daemon/logging.h"

#include <fmt/format.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <memory>
#include <vector>

namespace thermocline {
namespace {

class JournalSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
  protected:
    // No lock: sd_journal_send is thread-safe and nothing is kept here.
    void sink_it_(const spdlog::details::log_msg& message) override {
        const std::string text(message.payload.data(), message.payload.size());
        sd_journal_send("MESSAGE=%s", text.c_str(), "PRIORITY=%d", priority(message.level),
                        "SYSLOG_IDENTIFIER=thermoclined", nullptr);
    }
    void flush_() override {}

  private:
    static int priority(spdlog::level::level_enum level) {
        switch (level) {
            case spdlog::level::critical:
                return LOG_CRIT;
            case spdlog::level::err:
                return LOG_ERR;
            case spdlog::level::warn:
                return LOG_WARNING;
            case spdlog::level::info:
                return LOG_INFO;
            default:
                return LOG_DEBUG;
        }
    }
};

}  // namespace

Result<void> setUpLogging(const std::string& level) {
    const auto parsed = spdlog::level::from_str(level);
    // from_str says "off" for what it does not know.
    if (parsed == spdlog::level::off)
        return fail(ErrorCode::invalidArgument,
                    fmt::format("\"{}\" is not a log level; use trace, debug, info, warn or error", level));
    std::vector<spdlog::sink_ptr> sinks;
    const bool journal = ::access("/run/systemd/journal/socket", W_OK) == 0;
    if (journal) sinks.push_back(std::make_shared<JournalSink>());
    if (!journal || ::isatty(STDERR_FILENO) == 1) {
        auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
        sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
        sinks.push_back(std::move(sink));
    }
    auto logger = std::make_shared<spdlog::logger>("thermoclined", sinks.begin(), sinks.end());
    logger->set_level(parsed);
    logger->flush_on(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
    return {};
}

}  // namespace thermocline
