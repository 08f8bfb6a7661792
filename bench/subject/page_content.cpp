// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/page_content.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

namespace thermocline::bench {
namespace {

constexpr std::uint64_t pagesPerRun = 4;  // memory of one kind comes in small runs
constexpr std::size_t vocabularyWords = 2048;
constexpr std::size_t longestItem = 16;

/// xorshift64*: cheap, and good enough for contents.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(mix(seed) | 1) {}
    std::uint64_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return state_ * 0x2545f4914f6cdd1dULL;
    }
    std::uint64_t below(std::uint64_t bound) { return ((next() >> 32) * bound) >> 32; }
    /// Small numbers are more likely, as words and instructions are.
    std::uint64_t skewedBelow(std::uint64_t bound) {
        const auto one = below(1U << 16);
        const auto other = below(1U << 16);
        return (((one * other) >> 16) * bound) >> 16;
    }

  private:
    std::uint64_t state_;
};

/// A byte string that is copied as a whole: longestItem bytes are there to be copied.
struct Item {
    std::array<char, longestItem> bytes{};
    std::size_t length = 0;
};

std::vector<Item> makeVocabulary() {
    static constexpr std::string_view letters = "etaoinshrdlucmfwypvbgkjqxz";
    std::vector<Item> words(vocabularyWords);
    Random random(1);
    for (auto& word : words) {
        word.length = 4 + random.below(12);
        for (std::size_t i = 0; i + 1 < word.length; ++i)
            word.bytes[i] = letters[random.skewedBelow(letters.size())];
        word.bytes[word.length - 1] = random.below(12) == 0 ? '\n' : ' ';
    }
    return words;
}

std::vector<Item> makeInstructions() {
    std::vector<Item> instructions(256);
    Random random(2);
    for (auto& instruction : instructions) {
        instruction.length = 4 + random.below(5);
        for (std::size_t i = 0; i < instruction.length; ++i)
            instruction.bytes[i] = static_cast<char>(i == 0 ? 0x48 : random.next() >> 40);
    }
    return instructions;
}

/// Items of `list` one after the other; each is followed by `operandBytes` random bytes in a quarter of
/// cases.
void fillWithItems(Random& random, const std::vector<Item>& list, std::size_t operandBytes, PageWords words) {
    std::array<char, pageBytes + 2 * longestItem> text;
    constexpr std::size_t usual = 48;
    const auto firstUsual = random.below(list.size() - usual);
    for (std::size_t at = 0; at < pageBytes;) {
        const auto& item = list[random.below(8) != 0 ? firstUsual + random.skewedBelow(usual)
                                                     : random.skewedBelow(list.size())];
        std::memcpy(text.data() + at, item.bytes.data(), longestItem);
        at += item.length;
        if (operandBytes == 0 || random.below(6) != 0) continue;
        const auto operand = random.next();
        std::memcpy(text.data() + at, &operand, sizeof operand);
        at += operandBytes;
    }
    std::memcpy(words.data(), text.data(), pageBytes);
}

/// As a slab of kernel objects: pointers into one region, list heads, flags, counters, unused fields.
void fillWithStructures(std::uint64_t page, Random& random, PageWords words) {
    constexpr std::uint64_t directMap = 0xffff888000000000;
    constexpr std::uint64_t kernelText = 0xffffffff81000000;
    constexpr std::size_t wordsEach = 16;
    const auto operations = kernelText + random.below(1U << 12) * 64;
    for (std::size_t at = 0; at < words.size(); at += wordsEach) {
        const auto self = directMap + page * pageBytes + at * 8;
        const std::array<std::uint64_t, wordsEach> fields{
            self + wordsEach * 8,
            self - wordsEach * 8,
            operations,
            random.below(8) << 32 | random.below(4),
            directMap + (random.next() & 0x3fffffc0),
            self + 40,
            self + 40,
            1700000000000000000 + random.below(1U << 30),
            page * 32 + at / wordsEach,
            0,
            random.below(4) == 0 ? directMap + (random.next() & 0x3fffffc0) : 0,
            0,
            random.below(1U << 12),
            0,
            random.below(2),
            0};
        std::copy(fields.begin(), fields.end(), words.begin() + static_cast<std::ptrdiff_t>(at));
    }
}

/// As page tables, hash tables and heaps: mostly zeros.
void fillSparsely(std::uint64_t page, Random& random, PageWords words) {
    for (auto& word : words)
        word = random.below(6) != 0 ? 0 : (page << 12 ^ (random.next() & 0xffff000)) | 0x67;
}

void fillContent(std::uint64_t page, PageWords words) {
    static const auto vocabulary = makeVocabulary();
    static const auto instructions = makeInstructions();
    Random random(page + 1000);
    switch (kindOf(page)) {
        case PageKind::zero:
            std::fill(words.begin(), words.end(), 0);
            return;
        case PageKind::oneWord:
            std::fill(words.begin(), words.end(), firstTag(page));
            return;
        case PageKind::noise:
            std::generate(words.begin(), words.end(), [&] { return random.next(); });
            return;
        case PageKind::text:
            return fillWithItems(random, vocabulary, 0, words);
        case PageKind::structures:
            return fillWithStructures(page, random, words);
        case PageKind::code:
            return fillWithItems(random, instructions, 3, words);
        case PageKind::sparse:
            return fillSparsely(page, random, words);
    }
}

}  // namespace

std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

PageKind kindOf(std::uint64_t page) {
    const auto percent = mix(page / pagesPerRun) % 100;
    if (percent < 5) return PageKind::zero;
    if (percent < 10) return PageKind::oneWord;
    if (percent < 20) return PageKind::noise;
    if (percent < 40) return PageKind::text;
    if (percent < 70) return PageKind::structures;
    if (percent < 80) return PageKind::code;
    return PageKind::sparse;
}

void fillPage(std::uint64_t page, PageWords words) {
    fillContent(page, words);
    words[tagOffset(page) / 8] = firstTag(page);
}

std::uint64_t firstTag(std::uint64_t page) {
    switch (kindOf(page)) {
        case PageKind::zero:
            return 0;
        case PageKind::oneWord:
            return (page + 1) << 32 | (page + 1);
        default:
            return (page + 1) << 32;
    }
}

}  // namespace thermocline::bench
