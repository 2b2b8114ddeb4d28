// How much memory this process may still take: the host's, and its control groups'.
//
// What: `available_memory()`: bytes, or nothing where nothing can be read; `may_overcommit()`:
//   whether memory may be promised and be there later, or is refused at its first touch.
// When not: promises: others take memory too.
// Functions: reads files; no errors, what cannot be read does not limit.
// Design: the least of MemAvailable and, for the process's control group (version 1 and 2) and each
//   of its parents, limit - usage + file cache, which the kernel gives back. Within a container the
//   group's path may be the host's: then only the part of it that exists counts.
// Memory: small strings. Cost: system calls, about 0.1 ms.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace predawn {
namespace detail {

inline std::optional<std::uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;  // also "max"
}

// The number behind `name` in a file of lines "name number ...".
inline std::optional<std::uint64_t> read_field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    std::uint64_t number = 0;
    if (words >> first >> number && first == name) return number;
  }
  return std::nullopt;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* cache[2];
};
inline constexpr GroupFiles kGroupFiles1{"/memory.limit_in_bytes",
                                         "/memory.usage_in_bytes",
                                         {"total_inactive_file", "total_active_file"}};
inline constexpr GroupFiles kGroupFiles2{
    "/memory.max", "/memory.current", {"inactive_file", "active_file"}};

inline std::optional<std::uint64_t> room_in_group(const std::string& folder,
                                                  const GroupFiles& files) {
  const auto limit = read_number(folder + files.limit);
  const auto usage = read_number(folder + files.usage);
  if (!limit || !usage) return std::nullopt;
  std::uint64_t cache = 0;
  for (const char* name : files.cache) {
    cache += read_field(folder + "/memory.stat", name).value_or(0);
  }
  const std::uint64_t held = *usage > cache ? *usage - cache : 0;
  return *limit > held ? *limit - held : 0;
}

inline void lower(std::optional<std::uint64_t>& least, std::optional<std::uint64_t> other) {
  if (other) least = least ? std::min(*least, *other) : *other;
}

// The group at `root` + `path` and all above it.
inline std::optional<std::uint64_t> room_in_groups(const std::string& root, std::string path,
                                                   const GroupFiles& files) {
  std::optional<std::uint64_t> least;
  while (true) {
    lower(least, room_in_group(root + path, files));
    const std::size_t cut = path.rfind('/');
    if (path.empty() || cut == std::string::npos) return least;
    path.resize(cut);
  }
}

}  // namespace detail

[[nodiscard]] inline std::optional<std::uint64_t> available_memory(
    const std::string& proc = "/proc", const std::string& groups = "/sys/fs/cgroup") {
  std::optional<std::uint64_t> least;
  if (const auto kib = detail::read_field(proc + "/meminfo", "MemAvailable:")) least = *kib * 1024;
  std::ifstream file(proc + "/self/cgroup");  // lines "number:controllers:path"
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      detail::lower(least, detail::room_in_groups(groups, path, detail::kGroupFiles2));
    } else if (controllers.find(",memory,") != std::string::npos) {
      detail::lower(least, detail::room_in_groups(groups + "/memory", path, detail::kGroupFiles1));
    }
  }
  return least;
}

[[nodiscard]] inline bool may_overcommit(const std::string& proc = "/proc") {
  return detail::read_number(proc + "/sys/vm/overcommit_memory") != 2;
}

}  // namespace predawn
