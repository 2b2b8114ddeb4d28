// A store as one piece of shared memory: created or attached, in use, closed.
//
// What: `Segment`, `SegmentOptions`.
// When not: entries (table.hpp). This knows where they lie, not what they mean. A file that others
//   truncate while it is mapped: touching it is a SIGBUS then, as for every mapping.
// Functions: `create` (an empty path: anonymous memory, shared with children of fork), `attach`;
//   both throw StoreError, FileError, OutOfMemory, `create` std::invalid_argument for a bad shape.
//   `must_recover`: run recover() of recovery.hpp, then call `recovered`. `ensure_own` before
//   writing. `close` may be called again, by several threads; the memory goes with the segment.
// Design: a file is refused before it is mapped and never written unless it is wholly believed. A
//   new one is filled in before it gets its name. Its space is taken before it is touched: huge
//   pages first, then what is left. Anonymous memory without huge pages is committed as it is used,
//   where the system overcommits.
// Memory: `bytes()`, in the file. Cost: creation 0.1 s a GiB, attaching 1 ms a GiB at most.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "available_memory.hpp"
#include "file_space.hpp"
#include "huge_pages.hpp"
#include "layout.hpp"
#include "membership.hpp"
#include "new_file.hpp"

namespace predawn {

struct SegmentOptions {
  bool huge_pages = true;
  std::int64_t attach_timeout_ms = 5'000;
};

namespace detail {

inline constexpr const char* kAnonymous = "(anonymous)";

inline Descriptor open_anonymous() {
  Descriptor file(::memfd_create("predawn-store", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.is_open()) refuse_file(errno, kAnonymous, "creating");
  return file;
}

inline Descriptor open_existing(const std::string& path) {
  // O_NONBLOCK: a pipe at the path must not make anybody wait.
  Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file.is_open()) refuse_file(errno, path, "opening");
  return file;
}

// The same file through a description of its own; closed where that cannot be had. A mapping keeps
// its description, and the locks taken through it, for as long as anybody maps it: in a child of
// fork that would be beyond its parent's death.
inline Descriptor reopened(int fd) {
  char name[32];
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  return Descriptor(::open(name, O_RDWR | O_CLOEXEC));
}

inline std::uint64_t regular_size(int fd, const std::string& path) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) refuse_file(errno, path, "looking at");
  if (!S_ISREG(about.st_mode)) {
    refuse(path, {"the file's kind", "no regular file", "a regular file", "give another path"});
  }
  return static_cast<std::uint64_t>(about.st_size);
}

inline TableHeader read_header(int fd, const std::string& path) {
  TableHeader header{};
  auto* to = reinterpret_cast<char*>(&header);
  for (std::size_t done = 0; done < sizeof header;) {
    const ssize_t got = ::pread(fd, to + done, sizeof header - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse_file(errno, path, "reading");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return header;
}

// Before anything is taken. Memory files only; a disk's cache gives way.
inline void check_memory(int fd, std::uint64_t bytes, const std::string& path) {
  if (!is_memory_file(fd)) return;
  const auto available = available_memory();
  if (available && *available < bytes) throw OutOfMemory(path, bytes, available);
}

// One store in this process.
struct OpenStore {
  template <class Open>
  OpenStore(const std::string& file_path, const SegmentOptions& chosen, Open&& open)
      : is_anonymous(file_path.empty()),
        path(is_anonymous ? kAnonymous : file_path),
        options(chosen),
        file(std::forward<Open>(open)) {}
  ~OpenStore() { close(); }
  OpenStore(const OpenStore&) = delete;
  OpenStore& operator=(const OpenStore&) = delete;

  void map(const TableHeader& believed, const Layout& its_layout) {
    header = believed;
    layout = its_layout;
    const Descriptor apart = detail::reopened(file.fd());
    mapping.emplace(apart.is_open() ? apart.get() : file.fd(), layout.file_bytes, path);
    advise_pages(*mapping, options.huge_pages);
    membership.emplace(&file, preamble(), path, is_anonymous, options.attach_timeout_ms);
  }

  // A new file: its length, its space, its header.
  void fill_in(const TableHeader& made, const Layout& its_layout) {
    check_memory(file.fd(), its_layout.file_bytes, path);
    set_length(file.fd(), its_layout.file_bytes, path);
    const bool is_committed = !is_anonymous || options.huge_pages || !may_overcommit();
    if (is_committed) check_space(file.fd(), its_layout.file_bytes, path);
    map(made, its_layout);
    if (options.huge_pages && is_memory_file(file.fd())) take_huge_pages(file.fd(), *mapping, path);
    if (is_committed) take_space(file.fd(), 0, its_layout.file_bytes, path);
    if (is_anonymous) ::fcntl(file.fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    preamble()->header = made;
  }

  // A believed file: the rest of its space.
  void fill_up(std::size_t bytes) {
    struct stat about{};
    if (::fstat(file.fd(), &about) != 0) refuse_file(errno, path, "looking at");
    const auto held = static_cast<std::size_t>(about.st_blocks) * 512;
    if (held >= bytes) return;
    check_memory(file.fd(), bytes - held, path);
    fill_holes(file.fd(), bytes, path);
  }

  [[nodiscard]] Preamble* preamble() const noexcept {
    return reinterpret_cast<Preamble*>(mapping->start());
  }

  // No set has a change under way, a claimed slot, or a hand that points to no way.
  [[nodiscard]] bool is_at_rest() const noexcept {
    const auto* lines =
        reinterpret_cast<const SetLine<Atomics>*>(mapping->start() + layout.lines_at);
    bool is_busy = false;
    for (std::uint64_t set = 0; set < layout.sets; ++set) {
      const SetWord word(lines[set].word.load(std::memory_order_relaxed));
      is_busy |= word.pending() || word.claimed() != 0 || word.hand() >= kWays;
    }
    return !is_busy;
  }

  // The memory stays mapped until the end of this object: another thread may be in a call.
  void close() noexcept {
    if (membership) membership->leave();
  }

  bool is_anonymous;
  std::string path;
  SegmentOptions options;
  TableHeader header{};
  Layout layout;
  OwnFile file;
  std::optional<Mapping> mapping;
  std::optional<Membership> membership;
};

}  // namespace detail

class Segment {
 public:
  [[nodiscard]] static Segment create(const std::string& path, const TableShape& shape,
                                      const Seed& seed, std::int64_t now_ms,
                                      const SegmentOptions& options) {
    const TableHeader header = make_header(shape, seed, now_ms);
    const Layout layout = layout_of(shape);
    check_path(path);
    std::optional<NewFile> file;
    if (!path.empty()) file.emplace(path);
    auto store = std::make_unique<detail::OpenStore>(
        path, options, [&] { return file ? file->open() : detail::open_anonymous(); });
    store->fill_in(header, layout);
    store->membership->join(true, [] { return true; });
    if (file) file->publish(store->file.fd());
    return Segment(std::move(store));
  }

  [[nodiscard]] static Segment attach(const std::string& path, const SegmentOptions& options) {
    check_path(path);
    if (path.empty()) refuse_file(ENOENT, path, "opening");
    auto store = std::make_unique<detail::OpenStore>(path, options,
                                                     [&] { return detail::open_existing(path); });
    const std::uint64_t size = detail::regular_size(store->file.fd(), path);
    const TableHeader header = detail::read_header(store->file.fd(), path);
    const Layout layout = check_header(header, size, path);
    store->fill_up(size);
    store->map(header, layout);
    store->membership->join(false, [&] { return store->is_at_rest(); });
    if (is_memory_file(store->file.fd())) map_huge_pages(*store->mapping);
    return Segment(std::move(store));
  }

  [[nodiscard]] std::byte* at(std::size_t offset) const noexcept { return start_ + offset; }
  [[nodiscard]] Preamble& preamble() const noexcept { return *store_->preamble(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return store_->layout.file_bytes; }
  [[nodiscard]] const std::string& path() const noexcept { return store_->path; }
  [[nodiscard]] bool is_anonymous() const noexcept { return store_->is_anonymous; }
  // As checked when it was opened: what the mapping says may have been changed since by others.
  [[nodiscard]] const TableHeader& header() const noexcept { return store_->header; }
  [[nodiscard]] const Layout& layout() const noexcept { return store_->layout; }

  // Mapped in huge pages by this process so far. Takes milliseconds in a process of many maps.
  [[nodiscard]] std::uint64_t huge_bytes() const {
    return store_->mapping ? predawn::huge_bytes(*store_->mapping) : 0;
  }

  void ensure_own() { store_->membership->ensure_own(); }
  [[nodiscard]] JournalLease lease() {
    ensure_own();
    return store_->membership->pool().lease();
  }
  [[nodiscard]] JournalPool& pool() noexcept { return store_->membership->pool(); }
  [[nodiscard]] std::uint32_t attachment() const noexcept {
    return store_->membership->attachment();
  }
  [[nodiscard]] bool is_alive(std::uint32_t attachment) const noexcept {
    return store_->membership->is_alive(attachment);
  }
  [[nodiscard]] bool must_recover() const noexcept { return store_->membership->must_recover(); }
  void recovered() { store_->membership->recovered(); }

  void close() noexcept {
    if (store_) store_->close();
  }

 private:
  explicit Segment(std::unique_ptr<detail::OpenStore> store) noexcept
      : store_(std::move(store)), start_(store_->mapping->start()) {}

  static void check_path(const std::string& path) {
    if (path.find('\0') != std::string::npos) {
      throw std::invalid_argument("path: it holds a zero byte: give a path without one");
    }
  }

  std::unique_ptr<detail::OpenStore> store_;
  std::byte* start_;
};

}  // namespace predawn
