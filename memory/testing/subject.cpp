// SPDX-License-Identifier: Apache-2.0

// A process with memory like a VM's, for the tests and benchmarks of memory/: it maps "guest RAM", fills it
// with bytes that are a pure function of seed, page and generation, and checks every byte when told to. Reads
// commands from standard input, answers each with one line. Built without sanitizers: it is what gets
// infected.

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t pageBytes = 4096;
constexpr std::size_t hugeBytes = std::size_t{2} << 20;
constexpr std::uint32_t expectZeros = UINT32_MAX;
constexpr std::uint32_t expectNothing = UINT32_MAX - 1;  // unmapped

std::uint64_t mix(std::uint64_t x) {  // splitmix64's finalizer
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

class Memory {
  public:
    std::string map(std::size_t bytes, const std::string& kind) {
        // Reserve more than needed so that the range starts at a huge page's boundary.
        auto* reserved = static_cast<std::byte*>(::mmap(nullptr, bytes + hugeBytes, PROT_NONE,
                                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        const auto start =
            (reinterpret_cast<std::uintptr_t>(reserved) + hugeBytes - 1) / hugeBytes * hugeBytes;
        if (kind == "shared") {
            file_ = ::memfd_create("subject", MFD_CLOEXEC | MFD_ALLOW_SEALING);
            if (::ftruncate(file_, static_cast<off_t>(bytes)) != 0)
                return std::string("error ") + std::strerror(errno);
        }
        base_ = static_cast<std::byte*>(
            ::mmap(reinterpret_cast<void*>(start), bytes, PROT_READ | PROT_WRITE,
                   MAP_FIXED | (file_ < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED), file_, 0));
        if (file_ < 0) ::madvise(base_, bytes, kind == "huge" ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        ::madvise(base_, bytes, MADV_DONTFORK);
        generation_.assign(bytes / pageBytes, expectZeros);
        return "ok " + std::to_string(reinterpret_cast<std::uintptr_t>(base_));
    }

    /// mode: "mixed" has pages of one word, of noise and of one third noise; "plain" only the last, "noise"
    /// only the second.
    void fill(std::uint64_t seed, const std::string& mode) {
        seed_ = seed;
        mixed_ = mode == "mixed";
        noise_ = mode == "noise";
        for (std::size_t page = 0; page < generation_.size(); ++page)
            write(page, 0);
    }

    void write(std::size_t page, std::uint32_t generation) {
        std::uint64_t words[pageBytes / 8];
        content(page, generation, words);
        std::memcpy(base_ + page * pageBytes, words, pageBytes);
        generation_[page] = generation;
    }
    void bump(std::size_t page) {
        const auto now = generation_[page];
        if (now != expectNothing) write(page, now == expectZeros ? 0 : now + 1);
    }

    [[nodiscard]] bool verify(std::size_t page, std::string& problem) const {
        if (generation_[page] == expectNothing) return true;
        std::uint64_t words[pageBytes / 8] = {};
        if (generation_[page] != expectZeros) content(page, generation_[page], words);
        if (std::memcmp(base_ + page * pageBytes, words, pageBytes) == 0) return true;
        problem = "bad page " + std::to_string(page) + " generation " + std::to_string(generation_[page]);
        return false;
    }
    [[nodiscard]] std::string verifyAll() const {
        std::string problem;
        for (std::size_t page = 0; page < generation_.size(); ++page)
            if (!verify(page, problem)) return problem;
        return "ok " + std::to_string(generation_.size());
    }

    /// As QEMU does (ram_block_discard_range): memory of a file goes from there first.
    void discard(std::size_t first, std::size_t count) {
        punch(first, count);
        advise(first, count, MADV_DONTNEED);
    }
    void punch(std::size_t first, std::size_t count) {
        if (file_ >= 0)
            ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(first * pageBytes), static_cast<off_t>(count * pageBytes));
        expect(expectZeros, first, count);
    }
    void halfDiscard(std::size_t first, std::size_t count) { advise(first, count, MADV_DONTNEED); }
    /// As balloons of other operating systems do. Of pages that are in memory: to be written to before they
    /// are verified, since until then they may keep their bytes.
    void free(std::size_t first, std::size_t count) { advise(first, count, MADV_FREE); }
    void remove(std::size_t first, std::size_t count) { advise(first, count, MADV_REMOVE); }
    /// Shared memory keeps its bytes.
    void unmapPages(std::size_t first, std::size_t count) const {
        ::madvise(base_ + first * pageBytes, count * pageBytes, MADV_DONTNEED);
    }
    /// Zeros in the file, as a huge page has them that is only partly freed.
    void zeroInFile(std::size_t page) const {
        const std::byte zeros[pageBytes] = {};
        (void)!::pwrite(file_, zeros, pageBytes, static_cast<off_t>(page * pageBytes));
    }
    void unmap(std::size_t first, std::size_t count) {
        ::munmap(base_ + first * pageBytes, count * pageBytes);
        forget(first, count);
    }
    std::string remap() {
        const auto bytes = generation_.size() * pageBytes;
        auto* target =
            ::mmap(nullptr, bytes + hugeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        const auto aligned =
            (reinterpret_cast<std::uintptr_t>(target) + hugeBytes - 1) / hugeBytes * hugeBytes;
        auto* moved =
            ::mremap(base_, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void*>(aligned));
        if (moved == MAP_FAILED) return std::string("error ") + std::strerror(errno);
        base_ = static_cast<std::byte*>(moved);
        return "ok";
    }
    std::string touch(std::size_t first, std::size_t count, std::size_t stride) {
        std::uint64_t sum = 0;
        const auto began = std::chrono::steady_clock::now();
        for (std::size_t i = 0; i < count; ++i)
            sum += *reinterpret_cast<volatile std::uint8_t*>(base_ + (first + i * stride) * pageBytes);
        const auto took = std::chrono::steady_clock::now() - began;
        return "ok " + std::to_string(took.count()) + " " + std::to_string(sum);
    }
    /// Each page once, in an order in which nobody finds a stream.
    std::string touchShuffled(std::size_t first, std::size_t count) {
        std::vector<std::size_t> order(count);
        std::iota(order.begin(), order.end(), first);
        std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
        std::uint64_t sum = 0;
        const auto began = std::chrono::steady_clock::now();
        for (const auto page : order)
            sum += *reinterpret_cast<volatile std::uint8_t*>(base_ + page * pageBytes);
        const auto took = std::chrono::steady_clock::now() - began;
        return "ok " + std::to_string(took.count()) + " " + std::to_string(sum);
    }
    std::string pin(std::size_t first, std::size_t count) {
        io_uring_params parameters{};
        const auto ring = static_cast<int>(::syscall(SYS_io_uring_setup, 1, &parameters));
        iovec buffer{base_ + first * pageBytes, count * pageBytes};
        if (ring < 0 || ::syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) != 0)
            return std::string("error ") + std::strerror(errno);
        return "ok " + std::to_string(ring);
    }

    [[nodiscard]] std::size_t pages() const { return generation_.size(); }
    [[nodiscard]] std::byte* at(std::size_t page) const { return base_ + page * pageBytes; }
    /// What these pages hold is somebody else's business from now on.
    void forget(std::size_t first, std::size_t count) { expect(expectNothing, first, count); }

  private:
    void advise(std::size_t first, std::size_t count, int advice) {
        ::madvise(base_ + first * pageBytes, count * pageBytes, advice);
        expect(expectZeros, first, count);
    }
    void expect(std::uint32_t what, std::size_t first, std::size_t count) {
        for (auto page = first; page < first + count; ++page)
            generation_[page] = what;
    }
    void content(std::size_t page, std::uint32_t generation, std::uint64_t* words) const {
        const auto base = mix(seed_ ^ mix(page) ^ (std::uint64_t{generation} << 40));
        if (mixed_ && page % 8 == 0) {
            const auto word = base & 0xffffffff;
            for (std::size_t i = 0; i < pageBytes / 8; ++i)
                words[i] = word << 32 | word;
            return;
        }
        const bool allNoise = noise_ || (mixed_ && page % 16 == 1);
        auto state = base;
        for (std::size_t i = 0; i < pageBytes / 8; ++i) {
            state = state * 6364136223846793005ULL + 1442695040888963407ULL;
            words[i] = allNoise || i % 3 == 0 ? mix(state) : page + i * 8;
        }
    }

    std::byte* base_ = nullptr;
    int file_ = -1;  // a memfd, where memory is shared
    std::vector<std::uint32_t> generation_;
    std::uint64_t seed_ = 0;
    bool mixed_ = false;
    bool noise_ = false;
};

/// Threads that do something again and again, until one of them has found something wrong or they are
/// stopped.
class Workers {
  public:
    std::string stop() {
        stop_ = true;
        for (auto& thread : threads_)
            thread.join();
        if (file_ >= 0) ::close(file_);
        return bad_ ? problem_ : "ok " + std::to_string(operations_.load());
    }
    [[nodiscard]] std::uint64_t operations() const { return operations_; }
    /// How long an operation took, at most, in nanoseconds: of those that ended since this was asked last,
    /// and of them the part since then.
    std::int64_t longest() {
        since_ = std::chrono::steady_clock::now();
        return longest_.exchange(0);
    }
    [[nodiscard]] std::string problem() const { return bad_ ? problem_ : "ok"; }

    /// Threads that verify, rewrite and discard random pages, each its own share; and one that only reads
    /// everybody's pages, so that pages are faulted on while they are being discarded. `keep`: nothing is
    /// discarded.
    void hammer(Memory& memory, unsigned threads, bool keep) {
        start(0, [&memory](std::uint64_t random) {
            memory.touch((random >> 8) % memory.pages(), 1, 1);
            return false;
        });
        for (unsigned t = 0; t < threads; ++t) {
            start(t + 1, [this, &memory, t, threads, keep](std::uint64_t random) {
                const auto page = (random >> 8) % (memory.pages() / threads) * threads + t;
                std::string problem;
                if (!memory.verify(page, problem)) return wrong(problem);
                if ((random & 3) == 0) memory.bump(page);
                if (!keep && (random & 0x1f) == 5) {
                    memory.discard(page, 1);
                    if (!memory.verify(page, problem)) return wrong(problem);
                }
                return true;
            });
        }
    }

    /// Threads that have pages of `file` (made here) written straight into the first `pages` pages of memory
    /// by the device (O_DIRECT), each into its own share, and check what came.
    std::string readDirectly(Memory& memory, const std::string& file, unsigned threads, std::size_t pages) {
        constexpr std::uint64_t filePages = 1024;
        const int out = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        for (std::uint64_t page = 0; page < filePages; ++page) {
            const auto bytes = filePage(page);
            if (::write(out, bytes.data(), pageBytes) != static_cast<ssize_t>(pageBytes))
                return std::string("error ") + std::strerror(errno);
        }
        ::fsync(out);
        ::close(out);
        const int in = ::open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
        file_ = in;
        if (in < 0) return std::string("error O_DIRECT: ") + std::strerror(errno);
        memory.forget(0, pages);
        for (unsigned t = 0; t < threads; ++t) {
            start(t, [this, &memory, in, t, threads, pages](std::uint64_t random) {
                auto* target = memory.at((random >> 8) % (pages / threads) * threads + t);
                const auto page = (random >> 40) % filePages;
                if (::pread(in, target, pageBytes, static_cast<off_t>(page * pageBytes)) !=
                    static_cast<ssize_t>(pageBytes))
                    return wrong(std::string("error ") + std::strerror(errno));
                if (std::memcmp(target, filePage(page).data(), pageBytes) != 0)
                    return wrong("bad bytes after reading page " + std::to_string(page) + " of the file");
                return true;
            });
        }
        return "ok";
    }

  private:
    /// `once(random)`: true where it counts as an operation.
    template <typename Once>
    void start(std::uint64_t seed, Once once) {
        threads_.emplace_back([this, seed, once] {
            for (auto random = mix(seed); !stop_ && !bad_; random = mix(random)) {
                const auto began = std::chrono::steady_clock::now();
                if (once(random)) operations_.fetch_add(1, std::memory_order_relaxed);
                const auto took = (std::chrono::steady_clock::now() - std::max(began, since_.load())).count();
                for (auto longest = longest_.load();
                     took > longest && !longest_.compare_exchange_weak(longest, took);) {
                }
            }
        });
    }
    bool wrong(const std::string& problem) {
        const std::lock_guard lock(mutex_);
        if (!bad_) problem_ = problem;
        bad_ = true;
        return false;
    }
    static std::vector<std::uint64_t> filePage(std::uint64_t page) {
        std::vector<std::uint64_t> words(pageBytes / 8);
        for (std::size_t i = 0; i < words.size(); ++i)
            words[i] =
                i % 4 == 0 ? mix(page << 20 | i) : page + i;  // compressible, or it would not be evicted
        return words;
    }

    std::atomic<bool> stop_{false};
    std::atomic<bool> bad_{false};
    std::atomic<std::uint64_t> operations_{0};
    std::atomic<std::int64_t> longest_{0};
    std::atomic<std::chrono::steady_clock::time_point> since_{};
    std::mutex mutex_;
    std::string problem_;
    std::vector<std::thread> threads_;
    int file_ = -1;
};

}  // namespace

int main() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed must not leave a hammering process behind
    Memory memory;
    std::unique_ptr<Workers> workers;
    std::vector<std::thread> background;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command;
        std::string mode;
        std::uint64_t a = 0;
        std::uint64_t b = 0;
        std::uint64_t c = 0;
        words >> command;
        std::string answer = "ok";
        if (command == "map") {
            words >> a >> mode;
            answer = memory.map(a, mode);
        } else if (command == "fill") {
            words >> a >> mode;
            memory.fill(a, mode);
        } else if (command == "verify") {
            answer = memory.verifyAll();
        } else if (command == "write") {
            words >> a >> b;
            for (auto page = a; page < a + b; ++page)
                memory.bump(page);
        } else if (command == "touch") {
            words >> a >> b >> c;
            answer = memory.touch(a, b, c);
        } else if (command == "touch-shuffled") {
            words >> a >> b;
            answer = memory.touchShuffled(a, b);
        } else if (command == "discard") {
            words >> a >> b;
            memory.discard(a, b);
        } else if (command == "punch") {  // half of discard, where memory is shared
            words >> a >> b;
            memory.punch(a, b);
        } else if (command == "remove") {
            words >> a >> b;
            memory.remove(a, b);
        } else if (command == "unmap-pages") {  // the other half
            words >> a >> b;
            memory.unmapPages(a, b);
        } else if (command == "zero-in-file") {
            words >> a;
            memory.zeroInFile(a);
        } else if (command == "start-touch") {  // on a thread of its own, which may have to wait
            words >> a;
            background.emplace_back([&memory, a] { memory.touch(a, 1, 1); });
        } else if (command == "start-touch-all") {
            background.emplace_back([&memory] { memory.touch(0, memory.pages(), 1); });
        } else if (command == "start-write") {
            words >> a;
            background.emplace_back([&memory, a] { memory.bump(a); });
        } else if (command == "start-discard") {
            words >> a >> b;
            background.emplace_back([&memory, a, b] { memory.discard(a, b); });
        } else if (command == "free") {
            words >> a >> b;
            memory.free(a, b);
        } else if (command == "start-free") {
            words >> a >> b;
            background.emplace_back([&memory, a, b] { memory.free(a, b); });
        } else if (command == "start-half-discard") {  // nothing of a file is punched
            words >> a >> b;
            background.emplace_back([&memory, a, b] { memory.halfDiscard(a, b); });
        } else if (command == "start-remap") {
            background.emplace_back([&memory] { memory.remap(); });
        } else if (command == "join-last") {
            background.back().join();
            background.pop_back();
        } else if (command == "unmap") {
            words >> a >> b;
            memory.unmap(a, b);
        } else if (command == "remap") {
            answer = memory.remap();
        } else if (command == "pin") {
            words >> a >> b;
            answer = memory.pin(a, b);
        } else if (command == "unpin") {
            words >> a;
            ::close(static_cast<int>(a));
        } else if (command == "hammer") {
            words >> a >> mode;
            workers = std::make_unique<Workers>();
            workers->hammer(memory, static_cast<unsigned>(a), mode == "keep");
        } else if (command == "read-directly") {  // FILE THREADS PAGES
            words >> mode >> a >> b;
            workers = std::make_unique<Workers>();
            answer = workers->readDirectly(memory, mode, static_cast<unsigned>(a), b);
        } else if (command == "await") {  // until so many operations were done
            words >> a;
            while (workers->operations() < a)
                std::this_thread::yield();
        } else if (command == "await-more") {  // until so many more were done, or something was wrong
            words >> a;
            for (const auto until = workers->operations() + a;
                 workers->operations() < until && workers->problem() == "ok";)
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            answer = workers->problem();
        } else if (command == "longest") {
            answer = "ok " + std::to_string(workers->longest());
        } else if (command == "problem") {  // has one of the workers found something wrong?
            answer = workers->problem();
        } else if (command == "stop") {
            answer = workers->stop();
            workers.reset();
        } else {
            answer = "error unknown command " + command;
        }
        std::cout << answer << std::endl;
    }
    return 0;
}
